"""One response of the HTTP client: its body, read piece by piece, and what becomes of its connection."""

import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import attrs
import trio

from llmactors.http.arrivals import Arrivals, WatchedSocket
from llmactors.http.client_errors import BadResponse, ConnectionCut
from llmactors.http.client_socket import BROKEN, ClientSocket
from llmactors.http.content_coding import CODINGS, BodyDecoder
from llmactors.http.response import ResponseHead, ResponseParser

_WHOLE_BODY_BYTES = 16 << 20
_LOOK_S = 0.01
"""The shortest wait: where this process was stopped until after the deadline, what came in that time is still read."""
Absorb = Callable[[bytes], float | None]
"""What `ClientResponse.receive` may be given to take bytes in its place."""


@attrs.define(eq=False)
class ClientConnection:
    """A connection, and since when it waits for a request, on Trio's clock."""

    socket: ClientSocket
    idle_since: float = 0.0


class ClientResponse:
    """A response whose head has come, and whose body is read piece by piece. An async context manager.

    Leaving the context closes the response. Its connection serves the next request only where the body was read to its
    end; otherwise the connection is closed, which tells the server that nobody waits for the rest.
    """

    def __init__(
        self,
        connection: ClientConnection,
        parser: ResponseParser,
        pieces: list[bytes],
        *,
        keep: Callable[[ClientConnection], None],
        gathers: bool,
    ) -> None:
        assert parser.head is not None  # noqa: S101 - a response is made once its head is here
        self.head: ResponseHead = parser.head
        self._keep = keep
        self._gathers = gathers
        self._connection: ClientConnection | None = connection
        self._watched: WatchedSocket | None = None
        self._absorb: Absorb | None = None
        self._error: BadResponse | None = None
        """What was wrong with bytes that came while `receive` waited."""
        self._parser = parser
        self._pieces = pieces
        self._decoder = BodyDecoder() if parser.head.headers.get("content-encoding", "").lower() in CODINGS else None

    def __repr__(self) -> str:
        return f"<ClientResponse {self._parser!r}>"

    @property
    def status(self) -> int:
        """The status code."""
        return self.head.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers. Names are in lower case."""
        return self.head.headers

    @property
    def complete(self) -> bool:
        """Whether the end of the body has come. `receive` may still have bytes to give."""
        return self._parser.complete

    async def receive(self, deadline: float = math.inf, absorb: Absorb | None = None) -> bytes:
        """Waits for the next bytes of the body until `deadline`, on Trio's clock; empty at its end.

        A compressed body is decompressed.

        Args:
            deadline: When the wait ends.
            absorb: Called with bytes of the body that come during the wait, by whichever task has read them, so that
                the waiting task need not run for each piece. Returns the new deadline of the wait; or None, if
                `receive` is to return these bytes. Called only where the client `gathers`, without TLS
                and without compression.

        Raises:
            trio.TooSlowError: Nothing came in time. The wait may begin again.
            ConnectionCut: The connection ended before the body did, or the response was closed.
            BadResponse: The server breaks HTTP, or a bound.
        """
        if self._decoder is not None:
            return await self._decode(self._decoder, deadline)
        return await self._receive_bytes(deadline, absorb)

    async def _decode(self, decoder: BodyDecoder, deadline: float) -> bytes:
        decoded = b""
        while not decoded:
            if decoder.holds_more:  # a small body may become a very long one
                await trio.lowlevel.checkpoint()
                decoded = decoder.feed(b"")
            elif data := await self._receive_bytes(deadline, None):
                decoded = decoder.feed(data)
                if not decoded and trio.current_time() >= deadline:
                    raise trio.TooSlowError  # a server may send bytes for ever that decode to nothing
            else:
                decoder.feed_eof()
                return b""
        return decoded

    async def _receive_bytes(self, deadline: float, absorb: Absorb | None) -> bytes:
        parser, pieces = self._parser, self._pieces
        while not pieces:
            if parser.complete:
                return b""
            if self._connection is None:
                raise ConnectionCut("the response was closed before its body was read", begun=True)
            watched = self._watched or self._watch(self._connection.socket)
            if watched is None:
                pieces = await receive_into(self._connection.socket, parser, deadline)
            else:
                pieces = await self._receive_watched(watched, deadline, absorb)
        self._pieces = []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read(self, max_bytes: int = _WHOLE_BODY_BYTES) -> bytes:
        """Reads the rest of the body. Raises as `receive`, and `BadResponse` beyond `max_bytes`."""
        found: list[bytes] = []
        size = 0
        while piece := await self.receive():
            found.append(piece)
            size += len(piece)
            if size > max_bytes:
                raise BadResponse(f"the body is longer than {max_bytes} bytes")
        return b"".join(found)

    def close(self) -> None:
        """Gives the connection back, or closes it where the body was not read to its end. Never waits."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._watched is not None:
            self._watched.close()
            self._watched.absorb = self._absorb = None  # only the garbage collector could free the cycles
        if self._parser.complete and self.head.keep_alive and not self._parser.rest:
            self._keep(connection)
        else:
            connection.socket.close()

    def _watch(self, source: ClientSocket) -> WatchedSocket | None:
        if self._gathers:
            self._watched = source.watch(Arrivals.of_this_loop())
            if self._watched is not None:
                self._watched.absorb = self._take
        return self._watched

    async def _receive_watched(self, watched: WatchedSocket, deadline: float, absorb: Absorb | None) -> list[bytes]:
        self._absorb = absorb
        try:
            data = await watched.receive(deadline, at_once=absorb is None)
        except BROKEN as error:
            raise _cut(self._parser, error) from error
        if self._error is not None:
            raise self._error
        if not data:
            self._parser.feed_eof()
        return self._pieces

    def _take(self, data: bytes) -> float | None:
        """Parses bytes that came while `receive` waits. Returns the new deadline of the wait; None to end the wait."""
        try:
            pieces = self._parser.feed(data)
        except BadResponse as error:
            self._error = error
            return None
        assert self._watched is not None  # noqa: S101 - the watched socket has called
        if pieces and self._absorb is not None:
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            deadline = self._absorb(body)
            if deadline is not None:
                return None if self._parser.complete else deadline
            pieces = [body]
        self._pieces = pieces
        return None if pieces or self._parser.complete else self._watched.deadline

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


async def receive_into(source: ClientSocket, parser: ResponseParser, deadline: float) -> list[bytes]:
    """Feeds the parser one read."""
    try:
        if deadline == math.inf:
            data = await source.receive()
        else:
            with trio.fail_at(max(deadline, trio.current_time() + _LOOK_S)):
                data = await source.receive()
    except BROKEN as error:
        raise _cut(parser, error) from error
    if data:
        return parser.feed(data)
    parser.feed_eof()
    return []


def _cut(parser: ResponseParser, error: BaseException) -> ConnectionCut:
    return ConnectionCut(f"the connection broke: {str(error) or type(error).__name__}", begun=parser.begun)
