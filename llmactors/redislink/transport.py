"""The bytes of one connection: a plain socket, tried without waiting first, or TLS on Trio's stream."""

import contextlib
import socket
import ssl
from typing import Protocol

import trio

CLOSED = (OSError, ssl.SSLError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What a transport raises when it is of no use any more."""

_CHUNK = 256 * 1024


class Transport(Protocol):
    """One sender and one receiver at a time."""

    def send_nowait(self, data: bytes) -> int:
        """How many bytes were taken at once; 0 where it would have to wait."""

    async def send_all(self, data: bytes | memoryview) -> None:
        """Returns once all bytes are the kernel's."""

    async def receive(self) -> bytes:
        """Some bytes; none at the end."""

    def close(self) -> None:
        """At once. Whoever waits on it wakes up with one of `CLOSED`."""


class SocketTransport:
    """A plain socket, TCP or Unix."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock

    def send_nowait(self, data: bytes) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def send_all(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)

    async def receive(self) -> bytes:
        while True:
            # A reply takes longer than the way back to here: to try first would mostly be in vain.
            await trio.lowlevel.wait_readable(self._socket)
            with contextlib.suppress(BlockingIOError):
                return self._socket.recv(_CHUNK)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


class TlsTransport:
    """TLS: what it takes and what it sends are not the same bytes, so nothing can be tried without waiting."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream

    def send_nowait(self, data: bytes) -> int:  # noqa: ARG002 - the protocol's
        return 0

    async def send_all(self, data: bytes | memoryview) -> None:
        await self._stream.send_all(data)

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some(_CHUNK))

    def close(self) -> None:
        # Without TLS's goodbye: it could block, and the server does not need it.
        self._stream.transport_stream.socket.close()
