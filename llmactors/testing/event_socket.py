"""An SSE stream on a plain Trio socket: as little as a client can spend, so that many fit beside what they watch.

It reads what our servers write: HTTP/1.1, a chunked body, events of `id`, `event` and one line of JSON.
"""

import contextlib
import socket
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
import trio

_READ_BYTES = 65_536
_MAX_HEAD_BYTES = 65_536


class CutError(Exception):
    """The connection ended where an answer should have gone on. The first argument is a short class of reasons."""


class StreamEvent(msgspec.Struct):
    """The JSON of one event, and its name."""

    id: str = ""
    seq: int | None = None
    """None: it stands in no log."""
    text: str = ""
    finish_reason: str | None = None
    usage: dict[str, int] | None = None
    error: dict[str, Any] | None = None
    name: str = ""


_decode = msgspec.json.Decoder(StreamEvent).decode


class EventSocket:
    """One request and its answer. An async context manager."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._socket = sock
        self._raw = b""
        """Received, and not yet taken apart as HTTP."""
        self._text = b""
        """Taken apart as HTTP, not yet as events."""
        self._ended = False
        self.status = 0
        self.headers: dict[str, str] = {}

    @classmethod
    async def open(
        cls, url: str, method: str, path: str, *, body: object = None, headers: dict[str, str] | None = None
    ) -> Self:
        """Sends a request and reads the head of the answer. Raises `OSError` or `CutError`."""
        parts = urlsplit(url)
        data = b"" if body is None else msgspec.json.encode(body)
        sent = {"Host": parts.netloc, "Content-Length": str(len(data)), "Connection": "close", **(headers or {})}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
        sock = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        opened = cls(sock)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await sock.connect((parts.hostname, parts.port))
            await trio.SocketStream(sock).send_all("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
            await opened._read_head()
        except trio.BrokenResourceError as error:
            sock.close()
            raise CutError("cut before the answer") from error
        except BaseException:
            sock.close()
            raise
        return opened

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._socket.close()

    async def events(self) -> list[StreamEvent]:
        """The next events, as many as are here; empty at the answer's proper end. Raises `OSError` or `CutError`."""
        while not self._ended:
            if events := self._take_events():
                return events
            await self._receive()
            self._unchunk()
        return self._take_events()

    async def read_json(self) -> Any:
        """The whole body, of an answer that is no stream; None where that is no JSON."""
        length = self.headers.get("content-length")
        if length is None:
            while not self._ended:
                await self._receive()
                self._unchunk()
        else:
            while len(self._raw) < int(length):
                await self._receive()
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(self._text or self._raw)
        return None

    async def _receive(self) -> None:
        data = await self._socket.recv(_READ_BYTES)
        if not data:
            raise CutError("closed early")
        self._raw += data

    async def _read_head(self) -> None:
        while (end := self._raw.find(b"\r\n\r\n")) < 0:
            if len(self._raw) > _MAX_HEAD_BYTES:
                raise CutError("no head")
            data = await self._socket.recv(_READ_BYTES)
            if not data:
                raise CutError("closed before the answer")
            self._raw += data
        status_line, *lines = self._raw[:end].decode("latin-1").split("\r\n")
        self._raw = self._raw[end + 4 :]
        try:
            self.status = int(status_line.split()[1])
        except (IndexError, ValueError):
            raise CutError("no status line") from None
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "chunked" in self.headers.get("transfer-encoding", ""):
            self._unchunk()
        elif self.status == 204:
            self._ended = True

    def _unchunk(self) -> None:
        raw, begin = self._raw, 0
        while (line_end := raw.find(b"\r\n", begin)) >= 0:
            try:
                size = int(raw[begin:line_end], 16)
            except ValueError:
                raise CutError("malformed chunk") from None
            end = line_end + 2 + size
            if len(raw) < end + 2:
                break
            if not size:
                self._ended = True
                break
            self._text += raw[line_end + 2 : end]
            begin = end + 2
        self._raw = raw[begin:]

    def _take_events(self) -> list[StreamEvent]:
        if b"\n\n" not in self._text:
            return []
        *blocks, self._text = self._text.split(b"\n\n")
        return [_event(block) for block in blocks if not block.startswith(b":")]


def _event(block: bytes) -> StreamEvent:
    head, _, data = block.partition(b"data: ")
    try:
        event = _decode(data)
    except msgspec.DecodeError as error:
        raise CutError("malformed event") from error
    event.name = head.partition(b"event: ")[2].rstrip(b"\n").decode()
    return event
