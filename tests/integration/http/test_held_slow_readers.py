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
