"""The bytes of one connection, on a plain socket or in TLS."""

import contextlib
import socket
import ssl
from typing import Protocol

import trio

CLOSED = (OSError, ssl.SSLError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What a transport raises once its connection has ended."""

_BUFFER_BYTES = 64 * 1024
_SEND_BYTES = 256 * 1024
"""The most that one call sends, so that a long command lets other tasks run in between."""
_TLS_READ_BYTES = 16 * 1024
"""The most that one record of TLS can hold."""


class Transport(Protocol):
    """A byte stream for one sender and one receiver at a time."""

    def send_nowait(self, data: bytes) -> int:
        """Sends what can be sent without waiting, and returns how many bytes; perhaps 0."""

    async def send_all(self, data: bytes | memoryview) -> None:
        """Returns once the kernel has taken all bytes."""

    async def receive(self) -> bytes:
        """The next bytes; empty at the end of the stream."""

    def close(self) -> None:
        """Closes the connection at once. A task that waits on the transport gets one of `CLOSED`."""


class SocketTransport:
    """A plain socket, TCP or Unix."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._buffer = bytearray(_BUFFER_BYTES)

    def send_nowait(self, data: bytes) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def send_all(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest[:_SEND_BYTES]) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
            else:
                if rest:
                    # The server may read as fast as this loop sends, so that the socket never blocks.
                    await trio.lowlevel.checkpoint()

    async def receive(self) -> bytes:
        while True:
            if self._socket.fileno() < 0:
                # Closed before this task has begun to read. A wait for a socket without a descriptor would spoil the
                # next such wait of the whole process, with an error that no connection expects.
                raise trio.ClosedResourceError
            # The reply is rarely there yet, so this waits first.
            await trio.lowlevel.wait_readable(self._socket)
            with contextlib.suppress(BlockingIOError):
                # A `recv` would allocate all that it may receive and then give most of it back. Small replies that are
                # kept in between leave holes in the heap, so that the process grows by megabytes.
                count = self._socket.recv_into(self._buffer)
                return bytes(memoryview(self._buffer)[:count])

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


class TlsTransport:
    """TLS on a Trio stream. Nothing is sent without waiting, since a part of the encrypted bytes is no part of the
    given bytes.
    """

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream

    def send_nowait(self, data: bytes) -> int:  # noqa: ARG002 - the Protocol has the argument
        return 0

    async def send_all(self, data: bytes | memoryview) -> None:
        await self._stream.send_all(data)

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some(_TLS_READ_BYTES))

    def close(self) -> None:
        # No closing message of TLS is sent: to send one could block, and the server does not need the message.
        self._stream.transport_stream.socket.close()
