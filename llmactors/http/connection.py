"""One client's connection: the bytes in and out, the deadlines, and the end.

A write is first tried at once on the non-blocking socket; only what does not fit waits. Every way in which a connection
can end is a cancel of the scope in which the connection reads.

Hypercorn 0.18's own `TCPServer` is not used, for three reasons. Its writes are shielded and have no deadline, so that a
client which stops reading can neither be cancelled nor timed out. Each chunk costs a pass of the scheduler. And after a
cancelled exchange its idle timer does not start again.
"""

import contextlib
import fcntl
import math
import socket
import struct
import termios
from collections.abc import AsyncIterator

import attrs
import trio

from llmactors.errors import LlmactorsError
from llmactors.http.http1 import Http1
from llmactors.http.inbox import Application, ApplicationTasks
from llmactors.http.protocol_settings import Address, ProtocolSettings
from llmactors.http.throttle import BurstThrottle

FAIR_EVERY = 16
"""After so many writes in a row without a wait, the writing task lets other tasks run."""
READ_BYTES = 16 * 1024
"""The bytes that are read at once. Python allocates all of them before it knows how many there are, so a large number
leaves holes in the heap, by which the process grows."""
RESTRICTED_S = 2.0
"""The time in which a connection above a limit must send the head of its request."""
HALF_CLOSED_S = 0.5
"""The time in which an answer must be complete once its client sends no more. Most such clients are gone, but some only
end their sending side after their request, as `nc -N` does. What generates tokens is cancelled at once."""
LINGER_S = 2.0
"""The time in which a client may go on sending a request that was refused. If the connection of a client that is
sending is closed, the connection is reset, and the client may never read the response."""

CHUNK_SIZES = [b"%x\r\n" % size for size in range(1024)]
"""The first lines of chunks. Most chunks are short, and formatting a line takes four times as long as finding it."""


@attrs.frozen
class ConnectionSettings:
    """Bounds on one connection, in seconds."""

    write_s: float = 20.0
    """A client that reads nothing for this time is cut off."""
    idle_s: float = 75.0
    """The time that a connection may stay open without a request, and that the head of a request may take."""


class ServerConnection:
    """Serves the requests of one connection.

    Args:
        raw: The client's socket, which does not block, and not a copy: a closed copy's number could be another
            connection's by the time of a write. The caller closes the socket by Trio.
        throttle: Each first request of a pipeline waits here for its turn.
    """

    reached: bytes | int = b""
    """Where the next write brings the client. Of use to a connection that may outlive this process alone."""

    def __init__(
        self,
        app: Application,
        protocol: ProtocolSettings,
        raw: socket.socket,
        settings: ConnectionSettings,
        throttle: BurstThrottle,
    ) -> None:
        self._app = app
        self._protocol_settings = protocol
        self._raw = raw
        self._settings = settings
        self._throttle = throttle
        self._refusal: LlmactorsError | None = None
        self._reading = trio.CancelScope()
        self._ahead = b""
        self._idle = True
        self._sending = trio.Lock()
        self._senders = 0
        """The number of tasks that hold `_sending` or wait for it."""
        self._rest = b""
        """The unsent end of a chunk whose beginning was sent. The next write begins with these bytes."""
        self._unyielded = 0
        self._mute = False
        """Whether nothing may be written any more: the connection ends, or a part of a message was cut off."""

    def __repr__(self) -> str:
        state = "ending" if self._mute else "idle" if self._idle else "busy"
        return f"<Connection fd={self._raw.fileno()} {state}>"

    async def run(self) -> None:
        """Serves until either side ends the connection. Nothing that a client does makes this raise."""
        try:
            client, server = self._addresses()
            self._give_up_on_vanished()
        except OSError:
            return  # the client is gone already
        try:
            async with trio.open_nursery() as nursery:
                await self._serve(ApplicationTasks(nursery), client, server)
        finally:
            self._mute = True
            # Connection and protocol hold each other; without this the garbage collector would have to free them.
            del self._protocol

    def _addresses(self) -> tuple[Address, Address]:
        """The addresses of the client and of this end. Raises `OSError` where the client is gone."""
        return _address(self._raw, self._raw.getpeername()), _address(self._raw, self._raw.getsockname())

    async def _serve(self, tasks: ApplicationTasks, client: Address, server: Address) -> None:
        self._protocol = Http1(self._app, self._protocol_settings, tasks, self, client, server)
        self._protocol.connection_state["wire"] = self
        if self._refusal is not None:
            self._protocol.restrict(self._refusal)
        self.set_idle(idle=True)
        with self._reading:
            await self._read()
        self._mute = True
        await self._protocol.closed()
        tasks.end_background()

    def restrict(self, refusal: LlmactorsError) -> None:
        """Refuses every request on this connection with `refusal`, but for those that ask for the server's health.

        Call before `run`.
        """
        self._refusal = refusal
        self._settings = attrs.evolve(self._settings, idle_s=RESTRICTED_S)

    def drain(self) -> None:
        """Ends the connection if no request is under way. The server takes no further requests."""
        if self._idle:
            self._reading.cancel(reason="the server drains")

    # Reading. A connection ends when its reading is cancelled, or when the deadline of its reading is over.

    async def _read(self) -> None:
        while True:
            if self._ahead:
                data, self._ahead = self._ahead, b""
            else:
                data = await self._receive()
            if self._idle and data and not self._mute:
                await self._enter()
            if not self._mute:
                await self._protocol.received(data)
            if not data:
                if not self._mute and await self._protocol.client_ended():
                    await trio.sleep(HALF_CLOSED_S)  # the end of the answer ends the sleep
                return

    async def _enter(self) -> None:
        """Waits for the turn of a request. A client with a waiting request is not idle."""
        arrived, deadline = trio.current_time(), self._reading.deadline
        self._protocol.connection_state["arrived"] = arrived
        if self._throttle.enter_nowait():
            return
        self._idle, self._reading.deadline = False, math.inf
        await self._throttle.enter()
        self._idle, self._reading.deadline = True, deadline + trio.current_time() - arrived

    async def _receive(self) -> bytes:
        # Mostly there is nothing to read yet, so the wait comes first. Trio's stream would first try to read.
        while True:
            try:
                await trio.lowlevel.wait_readable(self._raw)
                return self._raw.recv(READ_BYTES)
            except BlockingIOError:
                pass
            except (OSError, trio.ClosedResourceError):
                self._mute = True  # nobody reads what is written to a broken connection
                return b""

    async def wait_aside(self, event: trio.Event) -> None:
        """Waits for the event, and meanwhile reads on, so that the end of the client is noticed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_ahead)
            await event.wait()
            nursery.cancel_scope.cancel(reason="no need to read ahead")

    async def _read_ahead(self) -> None:
        while len(self._ahead) < READ_BYTES:
            data = await self._receive()
            if not data:
                self._reading.cancel(reason="the client is gone")
                return
            self._ahead += data

    def set_idle(self, *, idle: bool) -> None:
        """Gives an idle connection its deadline. While the server drains, an idle connection ends."""
        self._idle = idle
        self._reading.deadline = trio.current_time() + self._settings.idle_s if idle else math.inf
        if idle and self._protocol_settings.draining():
            self.drain()

    # Writing.

    async def write(self, data: bytes) -> None:
        """Sends bytes to the client, or drops them if the client is gone."""
        if self._mute or not data:
            return
        sent = 0 if self._rest or self._senders else self._write_now(data)
        if sent < len(data):
            await self._write_waiting(data, sent)
            return
        self._unyielded += 1
        if self._unyielded % FAIR_EVERY == 0:
            await trio.lowlevel.checkpoint()

    def _write_now(self, data: bytes | memoryview) -> int:
        """The number of bytes that the socket took without waiting. Cuts a broken connection."""
        try:
            return self._raw.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.cut("the client is gone")
            return 0

    async def _write_waiting(self, data: bytes, sent: int) -> None:
        """Writes what is left of `data`. After a write that was cut off, nothing else may be written."""
        async with self._turn_to_send():
            if self._rest:
                data, self._rest = self._rest + data, b""
            await self._send_all(memoryview(data)[sent:])

    async def _send_all(self, rest: memoryview) -> None:
        """Sends bytes as the client takes them. Cuts a client that takes none."""
        while rest and not self._mute:
            if not await self._wait_writable():
                self.cut("the client reads nothing")
                return
            rest = rest[self._write_now(rest) :]

    @contextlib.asynccontextmanager
    async def _turn_to_send(self) -> AsyncIterator[None]:
        """Waits until no other task sends. A write that fails or is cancelled cuts the connection."""
        self._senders += 1
        try:
            async with self._sending:
                yield
        except trio.ClosedResourceError:
            self.cut("the connection was closed")
        except trio.Cancelled:
            self.cut("a write was cancelled")
            raise
        finally:
            self._senders -= 1

    async def _wait_writable(self) -> bool:
        """Returns whether the socket became writable; False if the client has read nothing for `write_s`."""
        while True:
            untaken = self._untaken()
            with trio.move_on_after(self._settings.write_s):
                await trio.lowlevel.wait_writable(self._raw)
                return True
            # A socket is writable only when much of its buffer is free, for which a slow client may need long.
            if self._untaken() >= untaken:
                return False

    def _untaken(self) -> int:
        """The number of sent bytes that the client has not acknowledged. Source: tcp(7), SIOCOUTQ."""
        answer: bytes = fcntl.ioctl(self._raw, termios.TIOCOUTQ, b"\0" * 4)
        return int(struct.unpack("i", answer)[0])

    def _give_up_on_vanished(self) -> None:
        """Cuts off a client whose machine or network is gone. Linux by itself would wait for 15 minutes."""
        if hasattr(socket, "TCP_USER_TIMEOUT") and self._raw.family != socket.AF_UNIX:
            limit_ms = max(1, int(self._settings.write_s * 1000))
            self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit_ms)

    def write_chunk_nowait(self, data: bytes) -> bool | None:
        """Sends one chunk of a body past the protocol, whose state a chunk does not change.

        Returns True if the chunk was sent; False if only a part was sent, after which `write_rest` must be called; None
        if no chunk can be sent now, and nothing was.
        """
        if self._mute or self._rest or self._senders or not self._protocol.may_continue_body:
            return None
        chunk = chunk_of(data)
        sent = self._write_now(chunk)
        if sent == len(chunk):
            return True
        self._rest = chunk[sent:]
        return False

    async def write_rest(self) -> None:
        """Sends what is left of a chunk."""
        if not self._mute:
            await self._write_waiting(b"", 0)

    # The end.

    async def end(self) -> None:
        """Ends the connection in order: everything was said."""
        if self._mute:
            return
        self._mute = True
        if not self._protocol.client_may_be_sending:
            self._reading.cancel(reason="the connection is complete")
            return
        self._reading.deadline = trio.current_time() + LINGER_S
        try:
            self._raw.shutdown(socket.SHUT_WR)
        except OSError:
            self._reading.cancel(reason="the client is gone")

    def cut(self, why: str) -> None:
        """Ends the connection without waiting for the client."""
        self._mute = True
        with contextlib.suppress(OSError):  # it may be closed already
            # The close will reset the connection, and drop what the client has not read.
            self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._reading.cancel(reason=why)


def chunk_of(data: bytes) -> bytes:
    """A chunk of a body."""
    size = len(data)
    return (CHUNK_SIZES[size] if size < len(CHUNK_SIZES) else b"%x\r\n" % size) + data + b"\r\n"


def _address(raw: socket.socket, address: tuple[str, int]) -> Address:
    """The host and the port of a TCP address; None for the address of a Unix socket."""
    return None if raw.family == socket.AF_UNIX else (address[0], address[1])
