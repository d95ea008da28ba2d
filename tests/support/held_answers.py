"""The answers that clients of held connections get, and the deaths of gateways at each step of them."""

import json
import os
import re

import h11
import trio
import trio.testing

from tests.support.held_lives import Lives

EVERY = int(os.environ.get("HELD_EVERY", "0"))
"""The distance of the steps at which gateways die, 1 for each; 0: the first, a middle and the last of each kind."""
ANSWER_S = 10.0


def request(path: str, body: object, headers: str = "") -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data


async def answers(stream: trio.SocketStream, sent: bytes, count: int = 1, part_bytes: int = 1 << 20) -> list[bytes]:
    """The heads and the bodies of so many answers to what was sent. Raises where bytes are no HTTP."""
    for start in range(0, len(sent), part_bytes):
        await stream.send_all(sent[start : start + part_bytes])
        if start + part_bytes < len(sent):
            await trio.testing.wait_all_tasks_blocked()
    machine = h11.Connection(h11.CLIENT)
    found: list[bytes] = []
    with trio.fail_after(ANSWER_S):
        for _ in range(count):
            method = "HEAD" if sent.startswith(b"HEAD") else "POST"  # the answer to HEAD has no body
            machine.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
            machine.send(h11.EndOfMessage())
            text = b""
            while not isinstance(event := machine.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    data = await stream.receive_some()
                    assert data, f"the connection was cut behind {text[-200:]!r}"
                    machine.receive_data(data)
                elif isinstance(event, h11.Response):
                    text += b"%d %r\n" % (event.status_code, event.headers.raw_items())
                elif isinstance(event, h11.Data):
                    text += bytes(event.data)
            found.append(plain(text))
            if len(found) < count:
                machine.start_next_cycle()
    return found


def plain(answer: bytes) -> bytes:
    """An answer without its id, of which it must have one, and its times."""
    ids = dict.fromkeys(re.findall(rb"[0-9a-f]{32}|(?<=call_)[0-9a-f]{24}", answer))
    for number, found in enumerate(ids):
        answer = answer.replace(found, b"id%d" % number)
    answer = re.sub(rb"(created|created_at|completed_at)\":\d+", rb"\1", answer)
    answer = re.sub(rb"\w\w\w, \d\d \w\w\w \d{4} \d\d:\d\d:\d\d GMT", b"date", answer)
    of_the_moment = rb"openai-processing-ms|x-queue[^)]*|x-ratelimit[^)]*|anthropic-ratelimit[^)]*"
    answer = re.sub(rb"\('?b?'?(" + of_the_moment + rb")[^)]*\)(?:, )?", b"", answer)
    choices: dict[bytes, list[bytes]] = {}
    for line in answer.split(b"\n"):  # the choices of one stream may come in any order
        index = re.search(rb'"choices":\[\{"index":(\d)', line)
        choices.setdefault(index[1] if index and b"[{" in line and line.startswith(b"data") else b"", []).append(line)
    return b"\n".join(b"\n".join(line for line in choices[key] if line) for key in sorted(choices))


def chosen(points: list[str]) -> list[int]:
    """The numbers of the steps at which a gateway dies, counted from 1."""
    if EVERY:
        return [*range(1, len(points) + 1, EVERY)]
    places: dict[str, list[int]] = {}
    for number, name in enumerate(points, 1):
        places.setdefault(name, []).append(number)
    # The tokens in the middle of a stream take another way than its head and its end.
    return sorted({number for each in places.values() for number in (each[0], each[len(each) // 2], each[-1])})


def difference(found: list[bytes], expected: list[bytes]) -> str:
    """Where the first answer differs."""
    pairs = enumerate(zip(found[0], expected[0], strict=False))
    at = next((at for at, (one, other) in pairs if one != other), min(len(found[0]), len(expected[0])))
    around = slice(max(0, at - 60), at + 60)
    return f"{found[0][around]!r} is not {expected[0][around]!r}"


async def die_at_each(
    lives: Lives, sent: bytes, *, count: int = 1, status: bytes = b"200 ", part_bytes: int = 1 << 20, **options: int
) -> int:
    """Lets gateways die at steps of answers. Returns how many died."""
    async with lives.client(**options) as stream:
        expected = await answers(stream, sent, count, part_bytes)
    assert all(each.startswith(status) for each in expected), expected
    died = 0
    for die_at in chosen([*lives.points]):
        before = lives.takeovers
        async with lives.client(die_at, **options) as stream:
            found = await answers(stream, sent, count, part_bytes)
            where = lives.points[die_at - 1] if len(lives.points) >= die_at else "nowhere"
        died += lives.takeovers - before
        assert not lives.cut, f"cut at step {die_at}, {where}: {lives.cut}"
        assert found == expected, f"other bytes behind a death at step {die_at}, {where}: {difference(found, expected)}"
    return died
