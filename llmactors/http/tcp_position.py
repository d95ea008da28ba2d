"""How many bytes of a TCP connection processes have written and taken, since its start. For Linux.

The kernel counts for the connection, and not for a process, so a process learns what the one before it did. Source of
the offsets: `struct tcp_info` in linux/tcp.h.
"""

import fcntl
import socket
import struct
import termios

_INFO_BYTES = 256
_STATE = 0
_ACKED = 120
_RECEIVED = 128
_AFTER_OWN_FIN = frozenset({4, 5, 6, 9, 11})
"""FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING: our FIN counts as one byte."""
_AFTER_THEIR_FIN = frozenset({6, 8, 9, 11})
"""TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING: the client's FIN counts as one byte."""
_CLOSED = 7


def is_closed(connection: socket.socket) -> bool:
    """Whether the connection is over in both directions, as after a reset."""
    return _info(connection)[_STATE] == _CLOSED


def written(connection: socket.socket) -> int:
    """The number of bytes that the kernel has accepted for the client.

    What the client acknowledges moves from one counter to the other, so both are read until the first stands still.
    """
    acked = _counter(_info(connection), _ACKED)
    while True:
        queued = _queued(connection, termios.TIOCOUTQ)
        info = _info(connection)
        if (now := _counter(info, _ACKED)) == acked:
            return acked + queued - (info[_STATE] in _AFTER_OWN_FIN)
        acked = now


def taken(connection: socket.socket) -> int:
    """The number of the client's bytes that processes have taken out of the kernel's buffer. Read as in `written`."""
    received = _counter(_info(connection), _RECEIVED)
    while True:
        waiting = _queued(connection, termios.FIONREAD)
        info = _info(connection)
        if (now := _counter(info, _RECEIVED)) == received:
            return received - waiting - (info[_STATE] in _AFTER_THEIR_FIN)
        received = now


def _info(connection: socket.socket) -> bytes:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)


def _counter(info: bytes, offset: int) -> int:
    return int(struct.unpack_from("=Q", info, offset)[0])


def _queued(connection: socket.socket, which: int) -> int:
    answer: bytes = fcntl.ioctl(connection, which, b"\0" * 4)
    return int(struct.unpack("=i", answer)[0])


def counts_bytes() -> bool:
    """Whether the kernel counts as this module needs it: some kernels of containers do not. Raises `OSError`."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as served,
    ):
        client.sendall(b"ask")
        served.sendall(b"answer")
        return served.recv(2) == b"as" and (written(served), taken(served)) == (6, 2)
