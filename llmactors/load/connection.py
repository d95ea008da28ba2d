"""One socket of the load client, and the request that is under way on this socket. No call here waits."""

import errno
import os
import select
import socket
from typing import Self

import attrs

from llmactors.load.recording import Recording
from llmactors.load.target import Target

READ_BYTES = 1 << 16
"""With 128 KiB or more, malloc would map new memory for each read, and a read would take 36 us instead of 9."""
IN, OUT = select.EPOLLIN, select.EPOLLOUT
TROUBLE = select.EPOLLERR | select.EPOLLHUP


@attrs.define(eq=False)
class LoadConnection:
    """A socket that `epoll` watches: always for bytes to read, and for room to write while bytes are unsent.

    Each call raises `OSError` where the system or the server reports an error.
    """

    epoll: "select.epoll"
    sock: socket.socket
    fd: int
    waits_to_write: bool = True
    connected: bool = False
    unsent: bytes = b""
    recording: Recording | None = None
    """The recording of the request that is under way; None while the connection is idle."""
    then: bytes = b""
    """The request to send once the WebSocket is open."""
    active: float = 0.0
    """When the request was sent, the last bytes came, or the connection became idle."""

    @classmethod
    def of(cls, target: Target, epoll: "select.epoll", now: float) -> Self:
        """Makes a connection that is not yet connected."""
        family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        epoll.register(sock.fileno(), IN | OUT)
        return cls(epoll, sock, sock.fileno(), active=now)

    def connect(self, target: Target, data: bytes) -> None:
        """Begins to connect; `data` is sent as soon as the connection is open."""
        code = self.sock.connect_ex((target.host, target.port))
        if code not in {0, errno.EINPROGRESS}:
            raise OSError(code, os.strerror(code))
        self.unsent = data

    def send(self, data: bytes) -> None:
        """Sends what the socket takes now, and keeps the rest. `data` is the unsent rest itself, or comes after the
        rest.
        """
        if self.unsent and self.unsent is not data:
            self.unsent += data
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        self.connected = True
        self.unsent = data[sent:]
        waits = bool(self.unsent)
        if waits is not self.waits_to_write:
            self.waits_to_write = waits
            self.epoll.modify(self.fd, IN | OUT if waits else IN)

    def receive(self) -> bytes | None:
        """The bytes that have come; empty at the end of the connection; None where nothing has come."""
        try:
            return self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return None

    def close(self) -> None:
        """Closes the socket, and drops its request."""
        self.recording = None
        self.unsent = b""
        self.sock.close()
