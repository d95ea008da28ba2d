"""One HTTP request on a connection of its own, over loopback.

Not httpx: its streamed bodies are nested async generators that nobody can close in order. To stop reading in the
middle, which is how a sequence is evicted, would leave them to the garbage collector. And no kept connections:
llama.cpp closes idle ones after five seconds, and a request that meets this moment fails.
"""

from urllib.parse import urlsplit

import h11
import trio

_CONNECT_S = 5.0
_READ_BYTES = 65536


class ConnectionLost(Exception):
    """The server did not accept the connection, broke it, or spoke no HTTP."""


class HttpExchange:
    """A response whose head has come. Whoever gets it closes it."""

    def __init__(self, stream: trio.SocketStream, parser: h11.Connection) -> None:
        self._stream = stream
        self._parser = parser
        self.status = 0

    def __repr__(self) -> str:
        return f"<HttpExchange {self.status} {self._parser.their_state}>"

    async def chunk(self) -> bytes:
        """The next bytes of the body; empty at its end. Raises `ConnectionLost`."""
        event = await self._next()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def body(self) -> bytes:
        """All that is left of the body. Raises `ConnectionLost`."""
        found = b""
        while chunk := await self.chunk():
            found += chunk
        return found

    def close(self) -> None:
        """Drops the connection at once."""
        self._stream.socket.close()

    async def send(self, request: h11.Request, body: bytes) -> None:
        """Sends the request and waits for the head of the response. Raises `ConnectionLost`."""
        events = (request, h11.Data(data=body), h11.EndOfMessage())
        wire = b"".join(self._parser.send(event) or b"" for event in events)
        try:
            await self._stream.send_all(wire)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionLost(str(error)) from error
        event = await self._next()
        while isinstance(event, h11.InformationalResponse):
            event = await self._next()
        if not isinstance(event, h11.Response):
            raise ConnectionLost("the server closed the connection without an answer")
        self.status = event.status_code

    async def _next(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        try:
            while True:
                event = self._parser.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._parser.receive_data(bytes(await self._stream.receive_some(_READ_BYTES)))
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError) as error:
            raise ConnectionLost(str(error)) from error


class HttpServer:
    """Where to send requests, and with which key."""

    def __init__(self, base_url: str, api_key: str) -> None:
        parts = urlsplit(base_url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._family = trio.socket.AF_INET6 if ":" in self._host else trio.socket.AF_INET
        self._headers = [
            ("Host", parts.netloc),
            ("Authorization", f"Bearer {api_key}"),
            ("Content-Type", "application/json"),
            ("Connection", "close"),
        ]

    def __repr__(self) -> str:
        return f"<HttpServer {self._host}:{self._port}>"

    async def request(self, method: str, path: str, body: bytes = b"") -> HttpExchange:
        """Waits for the head of the response, as long as it takes. Raises `ConnectionLost`."""
        # Not `open_tcp_stream`, which takes four times as long: there is one address, and it is no name.
        connection = trio.socket.socket(self._family)
        try:
            with trio.fail_after(_CONNECT_S):
                await connection.connect((self._host, self._port))
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError | trio.TooSlowError):
                raise ConnectionLost(str(error) or "no connection in time") from error
            raise
        exchange = HttpExchange(
            trio.SocketStream(connection), h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        )
        headers = [*self._headers, ("Content-Length", str(len(body)))]
        try:
            await exchange.send(h11.Request(method=method, target=path, headers=headers), body)
        except BaseException:
            exchange.close()
            raise
        return exchange
