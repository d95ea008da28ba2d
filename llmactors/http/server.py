"""The listening socket and the connections of a server: accept, serve, stop accepting, drain."""

import contextlib
import errno
import math
import socket
from collections import OrderedDict

import attrs
import msgspec
import structlog
import trio

from llmactors.actors import fatal
from llmactors.errors import BindError, InternalError, InvalidRequest, LlmactorsError
from llmactors.http.address import parse_address
from llmactors.http.addresses import network_of
from llmactors.http.byte_budget import ByteBudget
from llmactors.http.connection import ConnectionSettings, ServerConnection
from llmactors.http.connection_limits import Capacity, ConnectionLimits
from llmactors.http.exchange import ErrorRenderer
from llmactors.http.file_limit import within_file_limit
from llmactors.http.forwarded import TrustedProxies
from llmactors.http.inbox import Application
from llmactors.http.protocol_settings import ErrorResponse, ProtocolSettings
from llmactors.http.request_id import new_request_id
from llmactors.http.throttle import BurstThrottle

log = structlog.get_logger("llmactors.http")

BACKLOG = 1024
ACCEPT_AT_ONCE = 32
"""The number of connections that are accepted in one pass of the scheduler. With one in each pass, the last connection
of a burst waits for many passes; with all at once, the running streams wait for all of them."""
BEGUN_AT_ONCE = 64
"""The number of requests that may begin together. Of more, `BEGUN_PER_PASS` begin in each pass, 2 ms of work."""
BEGUN_PER_PASS = 4
TELL_EVERY_S = 10.0
"""The time between two log lines about connections that cannot be accepted."""
_NOT_SENT_BYTES = 16 * 1024
"""The bytes that the kernel takes beyond those that are on their way to the client."""
NOBODY_WAITS = {errno.EAGAIN, errno.EWOULDBLOCK}
TOO_MANY_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}


@attrs.frozen
class ServerSettings:
    """How connections are taken."""

    capacity: Capacity = attrs.field(factory=Capacity)
    """How many connections are held. The limit on the process's open files may lower these numbers."""
    max_message_bytes: int = 1024 * 1024
    """The largest WebSocket message that a client may send."""
    connection: ConnectionSettings = attrs.field(factory=ConnectionSettings)
    proxies: TrustedProxies = attrs.field(factory=TrustedProxies)
    """The proxies whose connections do not count as those of one client."""


class ListeningSocket:
    """A bound address. The socket outlives a restart of the server, during which clients wait in the kernel's queue.

    The address is bound at once, so that a port in use is an error before anything else starts. Clients can connect
    only after `listen`, which the server calls when it can answer.

    Raises:
        ConfigError: `bind` is not HOST:PORT.
        BindError: The address cannot be bound; the message says why, and which `flag` chooses another.
    """

    def __init__(self, bind: str, *, flag: str = "--bind") -> None:
        host, port = parse_address(bind, name=flag.removeprefix("--").replace("-", "_"))
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
        self.url = url_of(*self.socket.getsockname()[:2])
        """The URL for clients. The URL stays readable when the socket is closed."""

    def __repr__(self) -> str:
        return f"<ListeningSocket {self.url}>"

    def listen(self) -> None:
        """Lets clients connect."""
        self.socket.listen(BACKLOG)

    def close(self) -> None:
        """Refuses new connections."""
        self.socket.close()


class Server:
    """Serves `app` on one listening socket. Run `serve` as a task, and call `drain` from another.

    Args:
        errors: The form of the server's own error responses, to bytes that are no valid request.
    """

    def __init__(
        self, app: Application, listening: ListeningSocket, settings: ServerSettings, errors: ErrorRenderer
    ) -> None:
        self._app = app
        self._listening = listening
        self._settings = settings
        self._draining = False
        self._protocol = ProtocolSettings(
            max_message_bytes=settings.max_message_bytes,
            error_response=_error_response(errors),
            draining=lambda: self._draining,
            unfinished=ByteBudget(),
        )
        self._limits = ConnectionLimits(settings.capacity)
        self._throttle = BurstThrottle(burst=BEGUN_AT_ONCE, per_pass=BEGUN_PER_PASS)
        self._idle = trio.Event()
        self._open: set[ServerConnection] = set()
        self._restricted: OrderedDict[ServerConnection, None] = OrderedDict()
        """The connections above a limit, the oldest first. On these connections only the health of the server is
        answered."""
        self._refusals_told_at = -math.inf
        self._accepting: trio.CancelScope | None = None

    def __repr__(self) -> str:
        return f"<Server {self._listening!r} connections={len(self._open)}>"

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._open)

    async def serve(self) -> None:
        """Accepts and serves connections until cancelled. After `drain`, serves those that are open."""
        async with trio.open_nursery() as nursery:
            self._limits = ConnectionLimits(within_file_limit(self._settings.capacity))
            self._listening.listen()
            with trio.CancelScope() as self._accepting:
                await self._accept(nursery)
            await trio.sleep_forever()

    async def drain(self) -> None:
        """Stops accepting, ends idle connections, and waits for the last exchange. The caller bounds the wait."""
        self._listening.close()
        if self._accepting is not None:
            self._accepting.cancel(reason="the server drains")
        self._draining = True
        for connection in self._open:
            connection.drain()
        while self._open:
            self._idle = trio.Event()
            await self._idle.wait()

    async def _accept(self, nursery: trio.Nursery) -> None:
        """Takes connections until cancelled."""
        with self._listening.socket.dup() as listener:
            while True:
                await trio.lowlevel.wait_readable(listener)
                await self._accept_waiting(listener, nursery)

    async def _accept_waiting(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        """Serves the clients in the kernel's queue, at most `ACCEPT_AT_ONCE` of them."""
        for _ in range(ACCEPT_AT_ONCE):
            try:
                accepted, _ = listener.accept()
            except OSError as error:
                if error.errno in NOBODY_WAITS:
                    return
                if error.errno in TOO_MANY_FILES:
                    self._tell_of_refusal(error)
                    await trio.sleep(0.1)
                    return
                if error.errno not in {errno.ECONNABORTED, errno.EPERM, errno.EPROTO}:
                    raise
            else:
                connection = ServerConnection(
                    self._app, self._protocol, accepted, self._settings.connection, self._throttle
                )
                self._begin(connection, accepted, nursery)

    def _begin(
        self, connection: ServerConnection, raw: socket.socket, nursery: trio.Nursery, *, is_known: bool = False
    ) -> None:
        """Counts a connection, and starts its task. The tasks do not count, since Trio starts them in any order.

        A connection that `is_known` was served before: no limit ends what is under way on it, and its socket has its
        options.
        """
        closer = closer_of(raw)
        if not is_known:
            set_options(raw)
        address = self._client(raw)
        refusal = self._limits.enter(address)
        if refusal is not None and not is_known:
            self._restrict(connection, refusal)
        self._open.add(connection)
        nursery.start_soon(self._serve_one, connection, closer, address, refusal is None)

    async def _serve_one(
        self, connection: ServerConnection, closer: trio.abc.AsyncResource, address: str, is_counted: bool
    ) -> None:
        try:
            async with closer:
                await connection.run()
        except* Exception as group:
            if fatal(group) is not None:
                raise
            # A fault on one connection must not cut all the others.
            log.exception("connection failed", exc_info=group)
        finally:
            self._open.discard(connection)
            if is_counted:
                self._limits.leave(address)
            else:
                self._restricted.pop(connection, None)
            if not self._open:
                self._idle.set()

    def _restrict(self, connection: ServerConnection, refusal: LlmactorsError) -> None:
        """Lets a connection above a limit ask for the health of the server, in place of the oldest such connection."""
        connection.restrict(refusal)
        self._restricted[connection] = None
        if len(self._restricted) > self._limits.capacity.reserve:
            oldest, _ = self._restricted.popitem(last=False)
            oldest.cut("the reserve for health probes is full")

    def _client(self, raw: socket.socket) -> str:
        """The network of the client's address; empty for a trusted proxy, a client that is gone, and a Unix socket."""
        try:
            name = raw.getpeername()
        except OSError:
            return ""
        if not isinstance(name, tuple) or self._settings.proxies.has(name[0]):
            return ""
        return network_of(name[0])

    def _tell_of_refusal(self, error: OSError) -> None:
        now = trio.current_time()
        if now - self._refusals_told_at >= TELL_EVERY_S:
            self._refusals_told_at = now
            log.warning("cannot accept connections", error=str(error), open=len(self._open))


class SocketCloser(trio.abc.AsyncResource):
    """Closes a socket, which the connection reads and writes itself."""

    def __init__(self, raw: socket.socket) -> None:
        self._socket = trio.socket.from_stdlib_socket(raw)

    def __repr__(self) -> str:
        return f"<SocketCloser of {self._socket.fileno()}>"

    async def aclose(self) -> None:
        """Closes the socket, and wakes who waits for it."""
        self._socket.close()
        await trio.lowlevel.checkpoint()


def closer_of(raw: socket.socket) -> trio.abc.AsyncResource:
    """What closes the socket."""
    return SocketCloser(raw)


def set_options(raw: socket.socket) -> None:
    """Sets the options of a client's socket that Trio's own streams have: a write leaves at once, and the kernel takes
    little more than it can send.
    """
    with contextlib.suppress(OSError):  # a Unix socket has none
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOT_SENT_BYTES)


def url_of(host: str, port: int) -> str:
    """The URL of a server at a TCP address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _error_response(errors: ErrorRenderer) -> ErrorResponse:
    def make(status: int, message: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
        request_id = new_request_id()
        error = InternalError(message) if status == 500 else InvalidRequest(message)
        body = msgspec.json.encode(errors.body(error, request_id))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
        ]
        return headers, body

    return make
