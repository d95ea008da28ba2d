"""The position of a TCP connection, also while its counters move and behind the end of either side."""

import os
import socket
from collections.abc import Iterator

import pytest

from llmactors.http import tcp_position
from llmactors.http.tcp_position import is_closed, taken, written

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the counters are Linux's")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as client:
            server, _ = listener.accept()
            with server:
                yield client, server


def wait_taken_in(server: socket.socket) -> None:
    """Waits until something of the client has arrived."""
    server.recv(1, socket.MSG_PEEK)


def test_positions_count_from_the_start(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.sendall(b"x" * 100)
    wait_taken_in(server)
    assert (written(server), taken(server)) == (0, 0)
    server.recv(30)
    server.sendall(b"y" * 70)
    assert (written(server), taken(server)) == (70, 30)
    client.recv(70)
    assert written(server) == 70


def test_end_of_the_client_is_no_byte(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.sendall(b"x" * 10)
    client.shutdown(socket.SHUT_WR)
    assert server.recv(5) == b"x" * 5
    assert taken(server) == 5
    assert server.recv(9) == b"x" * 5
    assert server.recv(1) == b""
    assert taken(server) == 10


def test_own_end_is_no_byte(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    server.sendall(b"y" * 4)
    server.shutdown(socket.SHUT_WR)
    assert written(server) == 4
    assert client.recv(9) == b"y" * 4
    assert client.recv(1) == b""
    assert written(server) == 4


def test_reset_connection_is_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    assert not is_closed(server)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    with pytest.raises(ConnectionResetError):
        server.recv(1)
    assert is_closed(server)


def test_position_is_read_until_it_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two reads, bytes move from the one counter to the other."""
    acked, queued = iter([100, 160, 160]), iter([0, 40])

    def info(_: object) -> bytes:
        found = bytearray(256)
        found[0] = 1
        found[120:128] = next(acked).to_bytes(8, "little")
        return bytes(found)

    monkeypatch.setattr(tcp_position, "_info", info)
    monkeypatch.setattr(tcp_position, "_queued", lambda *_: next(queued))
    assert written(None) == 200  # type: ignore[arg-type]
