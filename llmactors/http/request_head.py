"""The head of a request: its bounds, before it is parsed, and what it asks for. Pure."""

import re
from collections.abc import Iterable

import h11

MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 128
_ABSOLUTE_FORM = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*(?P<origin>.*)")


class HeadBounds:
    """Counts the bytes and the lines of a head as they arrive, so that a long head costs the server less than the
    client.
    """

    def __init__(self) -> None:
        self._bytes = 0
        self._lines = 0
        self._tail = b""
        """The last bytes that were seen, in which the end of the head may have begun."""

    def __repr__(self) -> str:
        return f"<HeadBounds {self._bytes} bytes, {self._lines} lines>"

    def exceeded_by(self, data: bytes) -> bool:
        """Whether the head is too long, with `data` as the next bytes of the connection."""
        joined = self._tail + data
        end = _end_of_head(joined)
        head = joined if end is None else joined[:end]
        self._bytes += len(head) - len(self._tail)
        self._lines += head.count(b"\n") - self._tail.count(b"\n")
        self._tail = joined[-3:]
        return self._bytes > MAX_HEAD_BYTES or self._lines > MAX_HEADERS + 2


def _end_of_head(data: bytes) -> int | None:
    """The index after the first empty line. h11 takes a bare line feed for the end of a line, and so does this."""
    ends = [at + len(mark) for mark in (b"\n\r\n", b"\n\n") if (at := data.find(mark)) >= 0]
    return min(ends, default=None)


def is_websocket_handshake(request: h11.Request) -> bool:
    """Whether a request asks for a WebSocket."""
    if request.method != b"GET":
        return False
    tokens = {name: {each.strip() for each in value.lower().split(b",")} for name, value in _joined(request.headers)}
    return b"websocket" in tokens.get(b"upgrade", ()) and b"upgrade" in tokens.get(b"connection", ())


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers, with one entry for a name that came several times. RFC 9110, section 5.3."""
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    return [(name, b", ".join(each)) for name, each in values.items()]


def origin_form(target: bytes) -> bytes:
    """`/path?query`, also of a target that names the server, as requests to proxies do. RFC 9112, section 3.2.2."""
    match = None if target.startswith(b"/") else _ABSOLUTE_FORM.match(target)
    if match is None:
        return target
    return match["origin"] if match["origin"].startswith(b"/") else b"/" + match["origin"]


def head_of(request: h11.Request) -> bytes:
    """The head of a request as a client would send it again."""
    lines = [b"%b %b HTTP/%b" % (request.method, request.target, request.http_version)]
    lines += [b"%b: %b" % header for header in request.headers.raw_items()]
    return b"\r\n".join([*lines, b"", b""])
