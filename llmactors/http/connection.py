"""One client's connection: the bytes in and out around its protocol machine, and when it ends.

Hypercorn 0.18's own `TCPServer` writes inside a shielded scope without a deadline, so that a client which stops reading
could be neither cancelled nor timed out; takes a pass of the scheduler per chunk; and keeps its idle timer in a task,
which a cancelled exchange forgets to start again. Here a write is first tried at once on the non-blocking socket, only
what does not fit waits, and every way in which a connection can end comes down to the end of its reading.
"""

import contextlib
import fcntl
import math
import socket
import struct
import termios

import attrs
import trio
from hypercorn.config import Config
from hypercorn.events import Event, RawData, Updated
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import parse_socket_addr

from llmactors.http.http1 import Address, Http1
from llmactors.http.inbox import Application, ApplicationTasks
from llmactors.http.throttle import BurstThrottle

FAIR_EVERY = 16
"""After so many writes in a row that did not wait, the writing task lets others run."""
READ_BYTES = 64 * 1024
LINGER_S = 2.0
"""How long a client may go on sending what was refused. Closing under a sender resets the connection, and the sender
may never read why."""


@attrs.frozen
class ConnectionSettings:
    """Bounds on what a client may do to its connection. All in seconds."""

    write_s: float = 20.0
    """A client that takes nothing for this long is cut off."""
    idle_s: float = 75.0
    """How long a connection may stay open without a request; also how long a request's head may take."""


class ServerConnection:
    """See the module's text.

    Args:
        raw: The socket that `stream` is made of, not a copy: once that is closed nothing can be written to it, and
            so never to another connection that has its number by then.
        throttle: Where a request waits for its turn, but one of a pipeline, which follows on another.
    """

    def __init__(
        self,
        app: Application,
        config: Config,
        context: WorkerContext,
        stream: trio.SocketStream,
        raw: socket.socket,
        settings: ConnectionSettings,
        throttle: BurstThrottle,
    ) -> None:
        self._app = app
        self._config = config
        self._context = context
        self._stream = stream
        self._raw = raw
        self._settings = settings
        self._throttle = throttle
        self._reading = trio.CancelScope()
        self._ahead = b""
        self._idle = True
        self._sending = trio.Lock()
        self._senders = 0
        """How many hold that lock, or wait for it."""
        self._rest = b""
        """The end of a chunk whose beginning is on the wire: whatever is written next goes after it."""
        self._unyielded = 0
        self._mute = False
        """Nothing may be written any more: it is the end, or half of something is on the wire."""

    def __repr__(self) -> str:
        state = "ending" if self._mute else "idle" if self._idle else "busy"
        return f"<Connection fd={self._raw.fileno()} {state}>"

    async def run(self) -> None:
        """Serves until either side ends it. Raises nothing for what a client does."""
        try:
            client = parse_socket_addr(self._raw.family, self._raw.getpeername())
            server = parse_socket_addr(self._raw.family, self._raw.getsockname())
            self._give_up_on_vanished()
        except OSError:
            return  # it is gone already
        try:
            async with trio.open_nursery() as nursery:
                await self._serve(ApplicationTasks(nursery), client, server)
        finally:
            self._mute = True
            # Each holds the other, which would be left to the garbage collector.
            del self._protocol

    async def _serve(self, tasks: ApplicationTasks, client: Address, server: Address) -> None:
        self._protocol = Http1(
            self._app,
            self._config,
            self._context,
            tasks,
            client,
            server,
            self._send,
            self._wait_aside,
        )
        self._protocol.connection_state["wire"] = self
        self._set_idle(idle=True)
        with self._reading:
            await self._read()
        self._mute = True
        await self._protocol.closed()
        tasks.end_background()

    def drain(self) -> None:
        """From now on the server takes no requests: ends if there is none in hand."""
        if self._idle:
            self._reading.cancel(reason="the gateway drains")

    # Reading. To cancel it, or to give it a deadline, is how anything here ends the connection.

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
                return

    async def _enter(self) -> None:
        """A client that has asked is not idle while it waits for its turn, however long that is."""
        arrived, deadline = trio.current_time(), self._reading.deadline
        self._protocol.connection_state["arrived"] = arrived
        self._idle, self._reading.deadline = False, math.inf
        await self._throttle.enter()
        self._idle, self._reading.deadline = True, deadline + trio.current_time() - arrived

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _wait_aside(self, event: trio.Event) -> None:
        """Waits for the event, and meanwhile reads on, so that a client which goes is noticed."""
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

    def _set_idle(self, *, idle: bool) -> None:
        self._idle = idle
        self._reading.deadline = trio.current_time() + (self._settings.idle_s if idle else math.inf)
        if idle and self._context.terminated.is_set():
            self.drain()

    # Writing.

    async def _send(self, event: Event) -> None:
        """The protocol machine has something for the client."""
        if isinstance(event, RawData):
            data = event.data
            if self._mute or not data:
                return
            sent = 0 if self._rest or self._senders else self._write_now(data)
            if sent < len(data):
                await self._write_waiting(data, sent)
                return
            self._unyielded += 1
            if self._unyielded % FAIR_EVERY == 0:
                await trio.lowlevel.checkpoint()
        elif isinstance(event, Updated):
            self._set_idle(idle=event.idle)
        else:
            self._end()
            await self._protocol.closed()

    def _write_now(self, data: bytes | memoryview) -> int:
        """How many bytes the socket took without waiting. Cuts a connection that is broken."""
        try:
            return self._raw.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._cut("the client is gone")
            return 0

    async def _write_waiting(self, data: bytes, sent: int) -> None:
        """Writes what is left, in turn. If that is broken off, nothing may follow."""
        self._senders += 1
        try:
            async with self._sending:
                if self._rest:
                    data, self._rest = self._rest + data, b""
                rest = memoryview(data)[sent:]
                while rest and not self._mute:
                    if not await self._wait_writable():
                        self._cut("the client takes nothing")
                        return
                    rest = rest[self._write_now(rest) :]
        except trio.ClosedResourceError:
            self._cut("the connection was closed")
        except trio.Cancelled:
            self._cut("a write was cancelled")
            raise
        finally:
            self._senders -= 1

    async def _wait_writable(self) -> bool:
        """False if the client takes nothing for `write_s`."""
        while True:
            untaken = self._untaken()
            with trio.move_on_after(self._settings.write_s):
                await trio.lowlevel.wait_writable(self._raw)
                return True
            # A socket is writable again only once much of its buffer is free, which takes a slow client its time.
            if self._untaken() >= untaken:
                return False

    def _untaken(self) -> int:
        """Bytes that the kernel holds because the client has not taken them. Source: tcp(7), SIOCOUTQ."""
        answer: bytes = fcntl.ioctl(self._raw, termios.TIOCOUTQ, b"\0" * 4)
        return int(struct.unpack("i", answer)[0])

    def _give_up_on_vanished(self) -> None:
        """A client whose machine or network is gone acknowledges nothing; by itself Linux would wait 15 minutes."""
        if hasattr(socket, "TCP_USER_TIMEOUT") and self._raw.family != socket.AF_UNIX:
            limit_ms = max(1, int(self._settings.write_s * 1000))
            self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit_ms)

    def write_chunk_nowait(self, data: bytes) -> bool | None:
        """Sends one chunk of a body past the protocol machines: a chunk changes nothing in their state.

        False if the socket took a part of it only: then `write_rest`. None if no chunk can be sent now.
        """
        if self._mute or self._rest or self._senders or not self._protocol.may_continue_body:
            return None
        chunk = b"%x\r\n%b\r\n" % (len(data), data)
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

    def _end(self) -> None:
        """An orderly end: everything was said."""
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

    def _cut(self, why: str) -> None:
        """Ends it without waiting for a client that may not read."""
        self._mute = True
        with contextlib.suppress(OSError):  # it may be closed already
            # From now on a close resets, and drops what the client has not taken.
            self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._reading.cancel(reason=why)
