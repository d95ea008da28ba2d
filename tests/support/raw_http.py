"""One HTTP/1.1 exchange on a visible socket. A test can read the answer slowly or not at all, or cut it at any byte.

httpx does not allow this: httpx leaves async generators behind when a response is abandoned in the middle.
"""

import json
import socket
import struct
from typing import Any, Self
from urllib.parse import urlsplit

import attrs
import h11
import trio


@attrs.define(eq=False)
class RawExchange:
    """A request that was sent, and its answer, which is read piece by piece. An async context manager."""

    stream: trio.SocketStream
    status: int = 0
    headers: dict[str, str] = attrs.field(factory=dict)
    _machine: h11.Connection = attrs.field(factory=lambda: h11.Connection(h11.CLIENT))

    @classmethod
    async def open(
        cls,
        url: str,
        method: str,
        path: str,
        *,
        body: object = None,
        headers: dict[str, str] | None = None,
        read_head: bool = True,
    ) -> Self:
        """Sends one request with a JSON body, and reads the head of the answer."""
        parts = urlsplit(url)
        data = b"" if body is None else json.dumps(body).encode()
        sent = {"host": parts.netloc, "content-length": str(len(data)), **(headers or {})}
        exchange = cls(await trio.open_tcp_stream(parts.hostname or "", parts.port or 80))
        request = h11.Request(method=method, target=path, headers=list(sent.items()))
        parts_to_send = [request, h11.Data(data=data), h11.EndOfMessage()]
        await exchange.stream.send_all(b"".join(exchange._machine.send(part) or b"" for part in parts_to_send))
        if read_head:
            await exchange.read_head()
        return exchange

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stream.aclose()

    async def read_head(self) -> None:
        """Reads the head of the answer."""
        head = await self._next()
        assert isinstance(head, h11.Response)
        self.status = head.status_code
        self.headers = {name.decode().lower(): value.decode() for name, value in head.headers}

    async def read(self) -> bytes:
        """The next piece of the body; empty at its end. Raises `h11.RemoteProtocolError` if the body was cut."""
        event = await self._next()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def read_all(self) -> bytes:
        """The rest of the body."""
        pieces: list[bytes] = []
        while piece := await self.read():
            pieces.append(piece)
        return b"".join(pieces)

    async def read_json(self) -> Any:
        """The rest of the body, parsed as JSON."""
        return json.loads(await self.read_all())

    def reset(self) -> None:
        """Resets the connection (RST), as a crashed client or a firewall does."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()

    async def _next(self) -> object:
        while True:
            event = self._machine.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._machine.receive_data(await self.stream.receive_some())


async def read_to_end(stream: trio.SocketStream) -> bytes:
    """Everything that a server sends until it closes the connection, within 10 s."""
    pieces = []
    with trio.fail_after(10):
        while piece := await stream.receive_some():
            pieces.append(bytes(piece))
    return b"".join(pieces)
