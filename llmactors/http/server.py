"""The listener and the connections of a gateway: accept, serve, stop accepting, drain."""

import errno
import logging
import socket

import attrs
import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from llmactors.errors import BindError, ConfigError
from llmactors.http.connection import ConnectionSettings, ServerConnection
from llmactors.http.inbox import Application
from llmactors.http.throttle import BurstThrottle

log = structlog.get_logger("llmactors.gateway")

BACKLOG = 1024
ACCEPT_AT_ONCE = 32
"""Connections that are taken in one pass of the scheduler. With one in each, the last of a burst waits for as many
passes as there are others before it; with all at once, the streams that run wait for all of them."""
BEGUN_AT_ONCE = 64
"""Requests that are begun together; of more than that `BEGUN_PER_PASS` in each pass of the scheduler, 2 ms of work."""
BEGUN_PER_PASS = 4
NOBODY_WAITS = {errno.EAGAIN, errno.EWOULDBLOCK}
TOO_MANY_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}


@attrs.frozen
class ServerSettings:
    """How connections are taken."""

    max_connections: int = 4096
    """Above this, new connections wait in the kernel's queue."""
    max_message_bytes: int = 1024 * 1024
    """The largest WebSocket message that is accepted."""
    connection: ConnectionSettings = attrs.field(factory=ConnectionSettings)


class ListeningSocket:
    """A bound address. It outlives the gateway's incarnations: clients wait out a restart in the kernel's queue.

    Bound at once, so that a port in use is told before a model is loaded; listening only from `listen` on, so that
    nobody connects to a node that is still starting.
    """

    def __init__(self, bind: str, *, flag: str = "--bind") -> None:
        host, port = _split(bind, flag)
        try:
            family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self.socket = socket.socket(family, kind, proto)
        except OSError as error:
            raise BindError(f"cannot listen on {bind}: {error.strerror or error}") from error
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.setblocking(False)
            self.socket.bind(address)
        except OSError as error:
            self.socket.close()
            in_use = f"; another process listens there: stop it, or choose another address with {flag}"
            hint = in_use if error.errno == errno.EADDRINUSE else ""
            raise BindError(f"cannot listen on {bind}: {error.strerror}{hint}") from error
        host, port = self.socket.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        """As a client would write it. Also once it is closed."""

    def __repr__(self) -> str:
        return f"<ListeningSocket {self.url}>"

    def listen(self) -> None:
        """Lets clients connect."""
        self.socket.listen(BACKLOG)

    def close(self) -> None:
        """New connections are refused from now on."""
        self.socket.close()


class Server:
    """Serves `app` on one listening socket. Run `serve` as a task; `drain` from another."""

    def __init__(self, app: Application, listening: ListeningSocket, settings: ServerSettings) -> None:
        self._app = app
        self._listening = listening
        self._settings = settings
        self._config = _hypercorn_config(settings)
        self._context = WorkerContext(None)
        self._slots = trio.Semaphore(settings.max_connections)
        self._throttle = BurstThrottle(burst=BEGUN_AT_ONCE, per_pass=BEGUN_PER_PASS)
        self._idle = trio.Event()
        self._open: set[ServerConnection] = set()
        self._accepting: trio.CancelScope | None = None

    def __repr__(self) -> str:
        return f"<Server {self._listening!r} connections={len(self._open)}>"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    async def serve(self) -> None:
        """Accepts and serves connections until cancelled. After `drain`, serves those that are open."""
        async with trio.open_nursery() as nursery:
            self._listening.listen()
            with trio.CancelScope() as self._accepting, self._listening.socket.dup() as listener:
                while True:
                    await trio.lowlevel.wait_readable(listener)
                    await self._accept_waiting(listener, nursery)
            await trio.sleep_forever()

    async def drain(self) -> None:
        """Stops accepting, ends idle connections, and waits until the last exchange is over. Bound it from outside."""
        self._listening.close()
        if self._accepting is not None:
            self._accepting.cancel(reason="the gateway drains")
        await self._context.terminated.set()
        for connection in self._open:
            connection.drain()
        while self._open:
            self._idle = trio.Event()
            await self._idle.wait()

    async def _accept_waiting(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        """Serves those that wait in the kernel's queue, up to `ACCEPT_AT_ONCE` of them."""
        for _ in range(ACCEPT_AT_ONCE):
            try:
                self._slots.acquire_nowait()
            except trio.WouldBlock:
                await self._slots.acquire()
            try:
                accepted, _ = listener.accept()
            except OSError as error:
                self._slots.release()
                if error.errno in NOBODY_WAITS:
                    return
                if error.errno in TOO_MANY_FILES:
                    log.warning("cannot accept a connection", error=str(error))
                    await trio.sleep(0.1)
                    return
                if error.errno not in {errno.ECONNABORTED, errno.EPERM, errno.EPROTO}:
                    raise
            else:
                nursery.start_soon(self._serve_one, accepted)

    async def _serve_one(self, raw: socket.socket) -> None:
        # One socket: Trio's to wait with, and the same one ours, to write to without a pass of the scheduler.
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(raw))
        connection = ServerConnection(
            self._app, self._config, self._context, stream, raw, self._settings.connection, self._throttle
        )
        self._open.add(connection)
        try:
            async with stream:
                await connection.run()
        except* Exception as group:
            # A fault that one client's bytes bring out must not cut all the others.
            log.exception("connection failed", exc_info=group)
        finally:
            self._open.discard(connection)
            self._slots.release()
            if not self._open:
                self._idle.set()


def _hypercorn_config(settings: ServerSettings) -> Config:
    config = Config()
    config.websocket_max_message_size = settings.max_message_bytes
    config.websocket_ping_interval = 20.0
    config.errorlog = logging.getLogger("hypercorn.error")
    return config


def _split(bind: str, flag: str) -> tuple[str, int]:
    host, colon, port = bind.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        name = flag.removeprefix("--").replace("-", "_")
        raise ConfigError(f"`{name}` must be HOST:PORT, as in 127.0.0.1:8000, not {bind!r}")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - only where the operator writes ":8000"
