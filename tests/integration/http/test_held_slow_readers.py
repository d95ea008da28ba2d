"""Clients that have not read an answer to its end when its log is deleted, and then their gateway dies."""

import os

import pytest
import trio

from llmactors.keeper.protocol import COMPLETE, stored_records
from llmactors.testing.node import local_node, mock_model
from tests.support.held_answers import plain, request
from tests.support.held_lives import Lives, lives_of

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the keeper needs Linux"),
    pytest.mark.keeper,
    pytest.mark.timeout(300),
]

CHAT = [{"role": "user", "content": "rivers"}]
TOKENS = 2500
ENDED_S = 30.0
BODIES: dict[str, dict[str, object]] = {
    "/v1/generate": {"prompt": "rivers", "max_tokens": TOKENS},
    "/v1/chat/completions": {"messages": CHAT, "max_tokens": TOKENS},
    "/v1/completions": {"prompt": "rivers", "max_tokens": TOKENS},
    "/v1/responses": {"input": "rivers", "max_output_tokens": TOKENS, "store": False},
    "/v1/messages": {"messages": CHAT, "max_tokens": TOKENS},
}


@pytest.mark.parametrize("path", BODIES)
async def test_answer_outlives_its_log(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of an answer that has ended is recorded whole, so that the next gateway needs no log."""
    sent = request(path, {"model": "mock", "stream": True, **BODIES[path]}, "connection: close\r\n")
    async with local_node(mock_model(), retention_s=0.5) as node, lives_of(node.node, monkeypatch) as lives:
        await node.wait_ready()
        response = await node.client.post(path, json={"model": "mock", "stream": True, **BODIES[path]})
        expected = plain(b"\n" + response.content).partition(b"\n")[2]
        ended = (await node.node.ledger.statistics()).ended_total
        async with lives.client(SO_RCVBUF=2304) as stream:
            await stream.send_all(sent)
            found = b""
            with trio.fail_after(ENDED_S):
                while (await node.node.ledger.statistics()).ended_total == ended:  # noqa: ASYNC110 - nothing tells of it
                    await trio.sleep(0.01)
                while not is_whole(lives):
                    found += await stream.receive_some(4096)
                assert len(found) < len(expected) / 2
                while (await node.node.ledger.statistics()).ended:  # noqa: ASYNC110 - as above
                    await trio.sleep(0.01)
                lives.life.die()
                while data := await stream.receive_some():
                    found += data
        assert not lives.cut
        assert body_of(found) == expected


@pytest.mark.parametrize("stream", [False, True])
async def test_choice_outlives_the_retention_of_another(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first choice ends early, and then the gateway dies. The next one needs the logs of both."""
    path, body = "/v1/chat/completions", {"model": "mock", "messages": CHAT, "max_tokens": 100, "n": 2, "seed": 7}
    async with local_node(mock_model("step_ms=20"), retention_s=0.3) as node, lives_of(node.node, monkeypatch) as lives:
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
                while (await node.node.ledger.statistics()).ended_total == ended:  # noqa: ASYNC110 - nothing tells of it
                    await trio.sleep(0.01)
                await trio.sleep(0.8)  # the retention has passed
                assert (await node.node.ledger.statistics()).ended_total == ended + 1
                lives.life.die()
                while data := await client.receive_some():
                    found += data
        assert not lives.cut
        if stream:
            assert body_of(found) == expected
        else:
            assert plain(b"\n" + found.partition(b"\r\n\r\n")[2]).partition(b"\n")[2] == expected


def is_whole(lives: Lives) -> bool:
    """Whether the newest record says that the rest of the response is in it."""
    records = stored_records(lives.slots, lives.client_count % 64)
    return bool(records) and bool(records[0].flags & COMPLETE)


def body_of(response: bytes) -> bytes:
    """The body of a response in chunks, in the form in which `answers` has it."""
    rest, body = response.partition(b"\r\n\r\n")[2], b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not int(size, 16):
            assert rest == b"\r\n"
            return plain(b"\n" + body).partition(b"\n")[2]
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
