"""The bytes of a connection on a plain socket."""

import socket
import tracemalloc

import pytest

from llmactors.redislink.transport import SocketTransport

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
