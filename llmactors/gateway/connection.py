"""One client's connection: Hypercorn's protocol machine, with reads and writes of our own around it.

Hypercorn 0.18 writes inside a shielded scope without a deadline, so that a client which stops reading could be neither
cancelled nor timed out, and takes a pass of the scheduler per chunk. Here a write is first tried at once on the
non-blocking socket; only what does not fit waits, and not for longer than `write_s`.
"""

import socket
import struct

import attrs
import h11
import msgspec
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState
from hypercorn.utils import parse_socket_addr

from llmactors.gateway.app import new_request_id

FAIR_EVERY = 16
"""After so many writes in a row that did not wait, the writing task lets others run."""


@attrs.frozen
class ConnectionSettings:
    """Bounds on what a client may do to its connection. All in seconds."""

    write_s: float = 20.0
    """A client that takes nothing for this long is cut off."""
    idle_s: float = 75.0
    """How long a connection may stay open without a request; also how long a request's head may take."""


class Connection(TCPServer):
    """See the module's text. Runs until either side closes."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        stream: trio.SocketStream,
        raw: socket.socket,
        settings: ConnectionSettings,
    ) -> None:
        super().__init__(app, config, context, {}, stream)  # type: ignore[arg-type]
        self._raw = raw
        self._settings = settings
        self._unyielded = 0
        self._broken = False

    def __repr__(self) -> str:
        return f"<Connection fd={self._raw.fileno()} {'broken' if self._broken else 'open'}>"

    async def run(self) -> None:
        """Serves until the end of the connection. Never raises for what a client does."""
        try:
            try:
                await self._serve()
            finally:
                await self._close()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # the client is gone, and its streams have been told by `Closed`

    async def _serve(self) -> None:
        sock = self.stream.socket
        client = parse_socket_addr(sock.family, sock.getpeername())
        server = parse_socket_addr(sock.family, sock.getsockname())
        async with TaskGroup() as tasks:
            self._task_group = tasks
            # In Hypercorn a wrapper stands here, which only chooses between HTTP/1 and HTTP/2.
            self.protocol = Http1(  # type: ignore[assignment]
                self.app,
                self.config,
                self.context,
                tasks,
                ConnectionState(LifespanState({})),
                False,  # Hypercorn's signature: no TLS
                client,
                server,
                self.protocol_send,
            )
            await self.protocol.initiate()
            await self.idle_task.restart(tasks, self._idle_timeout)
            await self._read_data()

    async def protocol_send(self, event: Event) -> None:
        """Hypercorn's protocol machine has something for the client."""
        if isinstance(event, RawData):
            await self._write(event.data)
        else:
            await super().protocol_send(event)

    async def _write(self, data: bytes) -> None:
        if self._broken:
            return
        if not self.send_lock.locked():
            data = data[self._write_now(data) :]
            if not data:
                self._unyielded += 1
                if self._unyielded % FAIR_EVERY == 0:
                    await trio.lowlevel.checkpoint()
                return
        async with self.send_lock:
            await self._write_waiting(data)

    def _write_now(self, data: bytes) -> int:
        """How many bytes the socket took without waiting. Errors are left for the write that waits."""
        try:
            return self._raw.send(data)
        except OSError:
            return 0

    async def _write_waiting(self, data: bytes) -> None:
        complete = False
        try:
            with trio.move_on_after(self._settings.write_s):
                await self.stream.send_all(data)
                complete = True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            if not complete:
                # Half an event may be on the wire: nothing may follow it.
                self._broken = True
        if not complete:
            self._reset()
            await self.protocol.handle(Closed())

    def _reset(self) -> None:
        """Cuts the connection without waiting for a client that reads nothing."""
        try:
            self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._raw.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is closed already


class Http1(H11Protocol):
    """HTTP/1.1 only. Answers what is no HTTP at all with the JSON that every other error has."""

    async def _check_protocol(self, event: h11.Request) -> None:
        """No upgrade to HTTP/2 is offered."""

    async def _send_error_response(self, status_code: int) -> None:
        message = "the request head is too large" if status_code == 431 else "this is not a valid HTTP request"
        request_id = new_request_id()
        error = {"code": "INVALID_REQUEST", "message": message, "request_id": request_id}
        body = msgspec.json.encode({"error": error})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            (b"x-request-id", request_id.encode()),
            *self.config.response_headers("h11"),
        ]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())
