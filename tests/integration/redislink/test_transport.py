"""The bytes of a connection on a plain socket."""

import socket
import tracemalloc

import pytest

from llmactors.redislink.transport import CLOSED, SocketTransport

pytestmark = pytest.mark.integration


async def test_receive_allocates_only_what_arrived() -> None:
    """Python's own `recv` allocates all that it may receive, which left holes of megabytes in the heap of a node."""
    ours, theirs = socket.socketpair()
    transport = SocketTransport(ours)
    theirs.send(b"first")
    await transport.receive()
    tracemalloc.start()
    try:
        theirs.send(b"second")
        assert await transport.receive() == b"second"
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        transport.close()
        theirs.close()
    assert peak_bytes < 16 * 1024


async def test_receive_returns_everything_of_a_long_reply() -> None:
    ours, theirs = socket.socketpair()
    transport = SocketTransport(ours)
    data = bytes(range(256)) * 512
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * len(data))
    with theirs:
        theirs.sendall(data)
    pieces = []
    while piece := await transport.receive():
        pieces.append(piece)
    transport.close()
    assert b"".join(pieces) == data


async def test_closed_transports_spoil_no_other_read() -> None:
    """Connections that a failed write closes before their first read, one after the other."""
    for _ in range(3):
        ours, theirs = socket.socketpair()
        transport = SocketTransport(ours)
        transport.close()
        theirs.close()
        with pytest.raises(CLOSED):
            await transport.receive()
