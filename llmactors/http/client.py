"""An HTTP/1.1 client for one server, which streams the bodies of responses. On Trio, directly on sockets.

    client = HttpClient("http://127.0.0.1:8000/v1")
    async with await client.open("POST", "/completions", body) as response:
        while piece := await response.receive():
            ...

The caller bounds a request by a cancel scope; the client bounds only the opening of a connection. Redirects are not
followed, compression is not asked for, cookies are unknown, and no variable of the environment is read.
"""

import contextlib
import math
import re
from collections import deque
from collections.abc import Mapping, Sequence

import attrs
import trio

from llmactors.http.client_errors import ConnectionCut
from llmactors.http.client_response import ClientConnection, ClientResponse, receive_into
from llmactors.http.client_socket import BROKEN, Origin, open_socket, tls_context
from llmactors.http.response import ResponseLimits, ResponseParser

_REPEATABLE = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}
"""The methods whose second execution changes nothing (RFC 9110, 9.2.2)."""
_TARGET = re.compile(r"/[!-~]*")
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t -~\x80-\xff]*")


@attrs.frozen
class ClientSettings:
    """How a client connects, and what it keeps."""

    connect_s: float = 5.0
    """How long the opening of a connection may take."""
    max_idle: int = 32
    """How many connections are kept for the next requests; 0: each request has a connection of its own."""
    idle_s: float = 4.0
    """A connection that was idle for longer is not used again. Uvicorn and llama.cpp close them after five seconds."""
    limits: ResponseLimits = attrs.field(factory=ResponseLimits)
    proxy: str = ""
    """`http://HOST:PORT` of a proxy that tunnels (CONNECT); empty: there is none."""
    ca_file: str = ""
    """A PEM file of the certificate authorities to trust; empty: those that browsers trust."""
    gathers: bool = False
    """Whether the bodies of responses are read in passes together with those of other clients (`Arrivals`). A body that
    comes in small pieces costs less then, and a piece waits up to 4 ms for others while many bodies are read."""


@attrs.frozen
class ClientStatistics:
    """A snapshot of a client."""

    idle: int
    """Connections that wait for a request."""
    opened: int
    """Connections opened in all."""
    reused: int
    """Requests that went out on a connection that had been used before."""


@attrs.frozen
class WholeResponse:
    """A response whose body has been read."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class HttpClient:
    """A client of one server. Any number of tasks may use it; each request under way has a connection of its own.

    A request goes out a second time, on a new connection, where three things hold: its connection had been used before,
    the server closed the connection before any byte of a response, and the method is one that may be repeated (RFC
    9110, 9.2.2). So a server that closes an idle connection just when a GET is sent causes no failure. A POST is never
    sent twice: whether it was executed cannot be known here.

    Args:
        url: `http://HOST[:PORT][/PATH]` or `https://…`; all requests go below PATH.
        headers: What every request carries.
        settings: How it connects.

    Raises:
        ValueError: The URL, the proxy's URL or a header is malformed, or `ca_file` cannot be used.
    """

    def __init__(
        self, url: str, *, headers: Sequence[tuple[str, str]] = (), settings: ClientSettings | None = None
    ) -> None:
        self._origin = Origin.parse(url)
        self._settings = settings or ClientSettings()
        if self._settings.proxy and Origin.parse(self._settings.proxy).is_tls:
            raise ValueError(f"the proxy {self._settings.proxy!r} must be asked over http://")
        self._tls = tls_context(self._settings.ca_file) if self._origin.is_tls else None
        self._head = _lines([("Host", self._origin.authority), ("Accept-Encoding", "identity"), *headers])
        self._idle: deque[ClientConnection] = deque()
        self._opened = 0
        self._reused = 0
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<HttpClient {self._origin.authority} idle={len(self._idle)} opened={self._opened}>"

    def statistics(self) -> ClientStatistics:
        """Counts since the client was made."""
        return ClientStatistics(len(self._idle), self._opened, self._reused)

    async def open(
        self, method: str, path: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()
    ) -> ClientResponse:
        """Sends a request and waits for the head of its response. The caller closes what it gets.

        Raises:
            ConnectFailed: No connection could be opened.
            ConnectionCut: The server closed the connection without a response.
            BadResponse: The server answered with something that is no HTTP/1.1 response.
            ValueError: The path or a header is malformed.
        """
        request = self._request(method, path, body, headers)
        connection = self._take_idle()
        if connection is not None:
            self._reused += 1
            try:
                return await self._exchange(connection, method, request)
            except ConnectionCut as error:
                if error.begun or method not in _REPEATABLE:
                    raise
        settings = self._settings
        opened = await open_socket(self._origin, connect_s=settings.connect_s, proxy=settings.proxy, tls=self._tls)
        self._opened += 1
        return await self._exchange(ClientConnection(opened), method, request)

    async def fetch(
        self, method: str, path: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()
    ) -> WholeResponse:
        """Sends a request and reads the whole response. Raises as `open` and `ClientResponse.read`."""
        async with await self.open(method, path, body, headers) as response:
            return WholeResponse(response.status, response.headers, await response.read())

    def keep(self, connection: ClientConnection) -> None:
        """Keeps a connection for the next request, unless enough are kept already."""
        self._drop_old()
        if self._is_closed or len(self._idle) >= self._settings.max_idle:
            connection.socket.close()
            return
        connection.idle_since = trio.current_time()
        self._idle.append(connection)

    def close(self) -> None:
        """Closes the idle connections. A connection with a response under way closes with its response."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().socket.close()

    def _take_idle(self) -> ClientConnection | None:
        """The connection that was used last, of those that still look open."""
        self._drop_old()
        while self._idle:
            connection = self._idle.pop()
            if connection.socket.is_quiet():
                return connection
            connection.socket.close()
        return None

    def _drop_old(self) -> None:
        if self._idle:
            oldest = trio.current_time() - self._settings.idle_s
            while self._idle and self._idle[0].idle_since < oldest:
                self._idle.popleft().socket.close()

    def _request(self, method: str, path: str, body: bytes, headers: Sequence[tuple[str, str]]) -> bytes:
        target = self._origin.prefix + path
        if not _TARGET.fullmatch(target):
            raise ValueError(f"{target!r} is no path that a request can name")
        length = b"" if not body and method in {"GET", "HEAD"} else b"Content-Length: %d\r\n" % len(body)
        close = b"" if self._settings.max_idle else b"Connection: close\r\n"
        first = f"{method} {target} HTTP/1.1\r\n".encode("ascii")
        return b"".join((first, self._head, _lines(headers), length, close, b"\r\n", body))

    async def _exchange(self, connection: ClientConnection, method: str, request: bytes) -> ClientResponse:
        parser = ResponseParser(method, self._settings.limits)
        try:
            # A server may refuse a request before it has read the whole of it: its answer may be here already.
            with contextlib.suppress(*BROKEN):
                await connection.socket.send(request)
            pieces: list[bytes] = []
            while parser.head is None:
                pieces = await receive_into(connection.socket, parser, math.inf)
        except BaseException:
            connection.socket.close()
            raise
        return ClientResponse(connection, parser, pieces, keep=self.keep, gathers=self._settings.gathers)


def _lines(headers: Sequence[tuple[str, str]]) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers]
    for line in lines:
        if not _HEADER.fullmatch(line):
            # The error does not show the header's value, which may be a key.
            raise ValueError(f"the header {line.partition(':')[0]!r} is malformed")
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")
