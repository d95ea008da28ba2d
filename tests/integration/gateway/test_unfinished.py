"""Bodies and WebSocket messages that are not complete are bounded in their bytes, their frames and their time."""

import pytest
import trio

from llmactors.http.byte_budget import ByteBudget
from llmactors.testing.node import LocalNode, local_node, wait_until

pytestmark = pytest.mark.integration

HANDSHAKE = (
    b"GET /v1/ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
BUDGET = 1_000_000
PART = 300_000
UNFINISHED = bytes([0x01, 0xFF]) + PART.to_bytes(8) + b"\0\0\0\0" + b"x" * PART


async def open_socket(node: LocalNode) -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", node.port)
    await stream.send_all(HANDSHAKE)
    assert (await stream.receive_some(65536)).startswith(b"HTTP/1.1 101")
    return stream


async def close_code(stream: trio.SocketStream) -> int:
    """The code of the server's close frame, behind its pings."""
    data = b""
    with trio.fail_after(10):
        while True:
            at = data.find(b"\x88")
            if at >= 0 and len(data) >= at + 4:
                return int.from_bytes(data[at + 2 : at + 4])
            more = await stream.receive_some(65536)
            assert more, data
            data += more


async def test_all_unfinished_messages_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = ByteBudget(BUDGET)
    monkeypatch.setattr("llmactors.http.server.ByteBudget", lambda: budget)
    async with local_node() as node:
        sockets = [await open_socket(node) for _ in range(4)]
        for stream in sockets[:3]:
            await stream.send_all(UNFINISHED)
        await wait_until(lambda: budget.held == 3 * PART)
        await sockets[3].send_all(UNFINISHED)
        assert await close_code(sockets[3]) == 1013
        refused = await node.client.post("/v1/generate", content=b'{"prompt": "' + b"x" * 200_000 + b'"}')
        assert refused.status_code == 503
        for stream in sockets:
            await stream.aclose()
        await wait_until(lambda: not budget.held)
        assert (
            await node.client.post("/v1/generate", json={"prompt": "x" * 200_000, "max_tokens": 1})
        ).status_code in {
            200,
            400,
        }


async def test_a_message_has_bounded_frames() -> None:
    async with local_node() as node:
        stream = await open_socket(node)
        await stream.send_all(b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 2000)
        assert await close_code(stream) == 1008
        await stream.aclose()


async def test_a_message_must_be_complete_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmactors.http.websocket_stream.MESSAGE_S", 0.05)
    monkeypatch.setattr("llmactors.http.websocket_stream.PING_EVERY_S", 0.05)
    budget = ByteBudget()
    monkeypatch.setattr("llmactors.http.server.ByteBudget", lambda: budget)
    async with local_node() as node:
        stream = await open_socket(node)
        await stream.send_all(UNFINISHED)
        assert await close_code(stream) == 1008
        await stream.aclose()
        await wait_until(lambda: not budget.held)
