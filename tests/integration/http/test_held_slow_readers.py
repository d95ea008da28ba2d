"""Clients that read an answer for longer than its log is kept without a reader, and then their gateway dies."""

import os

import pytest
import trio

from llmactors.testing.node import LocalNode, local_node, mock_model
from tests.support.held_answers import plain, request
from tests.support.held_lives import lives_of

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the keeper needs Linux"),
    pytest.mark.keeper,
    pytest.mark.timeout(300),
]

CHAT = [{"role": "user", "content": "rivers"}]
TOKENS = 2500
ENDED_S = 60.0
KEPT_S = 600.0
BODIES: dict[str, dict[str, object]] = {
    "/v1/generate": {"prompt": "rivers", "max_tokens": TOKENS},
    "/v1/chat/completions": {"messages": CHAT, "max_tokens": TOKENS},
    "/v1/completions": {"prompt": "rivers", "max_tokens": TOKENS},
    "/v1/responses": {"input": "rivers", "max_output_tokens": TOKENS, "store": False},
    "/v1/messages": {"messages": CHAT, "max_tokens": TOKENS},
}


@pytest.mark.parametrize("path", BODIES)
async def test_answer_outlives_the_retention_of_its_log(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is kept while it is read, so that the next gateway finds it."""
    sent = request(path, {"model": "mock", "stream": True, **BODIES[path]}, "connection: close\r\n")
    async with local_node(mock_model(), retention_s=KEPT_S) as node, lives_of(node.node, monkeypatch) as lives:
        await node.wait_ready()
        response = await node.client.post(path, json={"model": "mock", "stream": True, **BODIES[path]})
        expected = plain(b"\n" + response.content).partition(b"\n")[2]
        ended = (await node.node.ledger.statistics()).ended_total
        async with lives.client(SO_RCVBUF=2304) as stream:
            await stream.send_all(sent)
            found = await stream.receive_some(4096)
            with trio.fail_after(ENDED_S):
                await end_and_be_late(node, ended, monkeypatch)
                lives.life.die()
                while data := await stream.receive_some():
                    found += data
        assert not lives.cut
        assert body_of(found) == expected


@pytest.mark.parametrize("stream", [False, True])
async def test_choice_outlives_the_retention_of_another(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first choice ends early, and then the gateway dies. The next one needs the logs of both."""
    path, body = "/v1/chat/completions", {"model": "mock", "messages": CHAT, "max_tokens": 100, "n": 2, "seed": 7}
    step = mock_model("step_ms=20")
    async with local_node(step, retention_s=KEPT_S) as node, lives_of(node.node, monkeypatch) as lives:
        await node.wait_ready()
        whole = (await node.client.post(path, json={**body, "max_tokens": 10})).json()
        first, second = (choice["message"]["content"].split() for choice in whole["choices"])
        stop = next(word for word in first if word not in second)
        body |= {"stream": stream, "stop": stop}
        expected = plain(b"\n" + (await node.client.post(path, json=body)).content).partition(b"\n")[2]
        ended = (await node.node.ledger.statistics()).ended_total
        async with lives.client() as client:
            await client.send_all(request(path, body, "connection: close\r\n"))
            found = b""
            with trio.fail_after(ENDED_S):
                await end_and_be_late(node, ended, monkeypatch)
                assert (await node.node.ledger.statistics()).ended_total == ended + 1
                lives.life.die()
                while data := await client.receive_some():
                    found += data
        assert not lives.cut
        if stream:
            assert body_of(found) == expected
        else:
            assert plain(b"\n" + found.partition(b"\r\n\r\n")[2]).partition(b"\n")[2] == expected


async def end_and_be_late(node: LocalNode, ended: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for the end of another request, and lets more than the retention of its log pass."""
    ledger = node.node.ledger
    while (await ledger.statistics()).ended_total == ended:  # noqa: ASYNC110 - nothing tells of it
        await trio.sleep(0.01)
    monkeypatch.setattr(ledger._life, "_now", lambda: trio.current_time() + 1.1 * KEPT_S)
    await ledger.reap()
    assert (await ledger.statistics()).ended == 1


def body_of(response: bytes) -> bytes:
    """The body of a response in chunks, in the form in which `answers` has it."""
    rest, body = response.partition(b"\r\n\r\n")[2], b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not int(size, 16):
            assert rest == b"\r\n"
            return plain(b"\n" + body).partition(b"\n")[2]
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
