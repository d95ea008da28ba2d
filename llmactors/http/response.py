"""Responses of HTTP/1.1 servers, parsed from bytes in whatever pieces they come. Pure: no socket and no clock.

The parser is fed what each read from a connection brought, and gives back the bytes of the body. It follows RFC 9112
strictly where a mistake would move the end of a body, and bounds everything that a server can make long.
https://www.rfc-editor.org/rfc/rfc9112
"""

import re
from collections.abc import Callable, Mapping

import attrs

from llmactors.http.client_errors import BadResponse, ConnectionCut
from llmactors.http.content_coding import CODINGS

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [^\r\n\0]*)?")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n\0]*)")
_FIRST_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_NEXT_SIZE = re.compile(rb"\r\n" + _FIRST_SIZE.pattern)
"""The line end behind a chunk's data, and the size of the next chunk."""
_MAX_SIZE_LINE_BYTES = 1024
_MAX_INFORMATIONAL = 16
"""How many 1xx responses may precede the final one."""
_NO_BODY = {204, 304}
_SWITCHING_PROTOCOLS = 101


@attrs.frozen
class ResponseLimits:
    """The bounds on one response. Beyond one of them the parser raises `BadResponse`."""

    head_bytes: int = 65_536
    """The status line and the headers together; also the trailers of a chunked body."""
    headers: int = 128
    """The number of header fields."""
    body_bytes: int = 1 << 30


_LIMITS = ResponseLimits()


@attrs.frozen
class ResponseHead:
    """The status and the headers of one response, and what they say about the body."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case. The values of a repeated field are joined with `, `."""
    chunked: bool
    length: int | None
    """The number of bytes of the body; None where the body is chunked, or ends with the connection."""
    keep_alive: bool
    """Another request may follow on the connection."""

    @classmethod
    def parse(cls, block: bytes, *, method: str, limits: ResponseLimits = _LIMITS) -> "ResponseHead":
        """Parses `block`, a head without the empty line behind it, of a response to `method`. Raises `BadResponse`."""
        # A line that begins with white space continues the line before (RFC 9112, 5.2).
        lines = block.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").split(b"\r\n")
        first = _STATUS_LINE.fullmatch(lines[0])
        if first is None:
            raise BadResponse(f"the response begins with {lines[0][:80]!r}, which is no status line of HTTP/1.1")
        if len(lines) - 1 > limits.headers:
            raise BadResponse(f"the response has {len(lines) - 1} headers; at most {limits.headers} are read")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            field = _FIELD.fullmatch(line)
            if field is None:
                raise BadResponse(f"the response has a malformed header: {line[:80]!r}")
            name, value = field[1].decode("ascii").lower(), field[2].strip(b" \t").decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return cls._framed(int(first[2]), headers, method=method, is_old=first[1] == b"0")

    @classmethod
    def _framed(cls, status: int, headers: dict[str, str], *, method: str, is_old: bool) -> "ResponseHead":
        """Decides where the body ends (RFC 9112, 6.3) and whether the connection stays open (9.3)."""
        encoding = headers.get("content-encoding", "identity").lower()
        if encoding not in {"identity", *CODINGS}:
            raise BadResponse(f"the response's body is encoded with {encoding[:80]!r}, which was not asked for")
        options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
        keep_alive = "keep-alive" in options if is_old else "close" not in options
        has_no_body = method == "HEAD" or status < 200 or status in _NO_BODY
        if has_no_body or (method == "CONNECT" and status < 300):
            return cls(status, headers, chunked=False, length=0, keep_alive=keep_alive)
        coding = headers.get("transfer-encoding")
        if coding is not None:
            if is_old or coding.lower() != "chunked":
                raise BadResponse(f"the response has the transfer coding {coding[:80]!r}; only chunked is understood")
            # With a length as well, one of the two is wrong, so the connection is not used again.
            keep_alive = keep_alive and "content-length" not in headers
            return cls(status, headers, chunked=True, length=None, keep_alive=keep_alive)
        if "content-length" not in headers:
            return cls(status, headers, chunked=False, length=None, keep_alive=False)
        told = {value.strip() for value in headers["content-length"].split(",")}
        length = told.pop()
        if told or not (length.isascii() and length.isdigit() and len(length) < 16):
            raise BadResponse(f"the response has the Content-Length {headers['content-length'][:80]!r}")
        return cls(status, headers, chunked=False, length=int(length), keep_alive=keep_alive)


class ResponseParser:
    """The parser of one response.

    Args:
        method: The method of the request; a response to HEAD has no body.
        limits: The bounds on the response.
    """

    def __init__(self, method: str = "GET", limits: ResponseLimits = _LIMITS) -> None:
        self.head: ResponseHead | None = None
        """None until the head is complete. Interim responses (1xx other than 101) are passed over."""
        self.complete = False
        """The response has ended."""
        self.rest = b""
        """What came behind the end: frames of another protocol after a 101, otherwise nothing that belongs there."""
        self.chunks_ended = 0
        """How many chunks of a chunked body are complete."""
        self._method = method
        self._limits = limits
        self._read: Callable[[bytes], list[bytes]] = self._read_head
        self._head_bytes = bytearray()
        self._informational = 0
        self._body_bytes = 0
        self._held = b""
        """The beginning of a size line, or of the trailers."""
        self._left = 0
        """How many bytes of the open chunk, or of a body with a length, are still to come."""
        self._size_line = _FIRST_SIZE

    def __repr__(self) -> str:
        status = "no head yet" if self.head is None else self.head.status
        return f"<ResponseParser {status}, {self._body_bytes} bytes of body, complete={self.complete}>"

    @property
    def begun(self) -> bool:
        """Whether any byte of the response has come."""
        return self.head is not None or bool(self._head_bytes) or self._informational > 0

    def feed(self, data: bytes) -> list[bytes]:
        """Takes one read, and returns the body's bytes in it: of a chunked body one piece per chunk, complete or not.

        Raises `BadResponse`; the parser is of no use afterwards.
        """
        return self._read(data)

    def feed_eof(self) -> None:
        """Takes the end of the connection. Raises `ConnectionCut` unless the response is complete with that end."""
        if self.complete:
            return
        if self.head is None or self.head.chunked or self.head.length is not None:
            told = "in the middle of a response" if self.begun else "without a response"
            raise ConnectionCut(f"the server closed the connection {told}", begun=self.begun)
        self._end(b"")

    def _read_head(self, data: bytes) -> list[bytes]:
        held = self._head_bytes
        start = max(0, len(held) - 3)
        held += data
        end = held.find(b"\r\n\r\n", start)
        if (end if end >= 0 else len(held)) > self._limits.head_bytes:
            raise BadResponse(f"the response's head is longer than {self._limits.head_bytes} bytes")
        if end < 0:
            return []
        head = ResponseHead.parse(bytes(held[:end]), method=self._method, limits=self._limits)
        rest = bytes(held[end + 4 :])
        self._head_bytes = bytearray()
        if head.status < 200 and head.status != _SWITCHING_PROTOCOLS:
            self._informational += 1
            if self._informational > _MAX_INFORMATIONAL:
                raise BadResponse(f"the server sent more than {_MAX_INFORMATIONAL} interim responses")
            return self._read_head(rest) if rest else []
        self.head = head
        if head.chunked:
            self._read = self._read_chunks
        elif head.length is None:
            self._read = self._read_until_close
        else:
            self._read = self._read_length
            self._left = head.length
            self._count(head.length)
            return self._read_length(rest)
        return self._read(rest) if rest else []

    def _read_chunks(self, data: bytes) -> list[bytes]:
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self._left:
                stop = at + self._left
                if stop > end:
                    pieces.append(data[at:])
                    self._left = stop - end
                    break
                pieces.append(data[at:stop])
                at, self._left = stop, 0
                self.chunks_ended += 1
                self._size_line = _NEXT_SIZE
            line = self._size_line.match(data, at)
            if line is None:
                self._held = self._partial_size_line(data[at:])
                break
            size, at = int(line[1], 16), line.end()
            if size == 0:
                self._read = self._read_trailers
                self._read_trailers(data[at:])
                break
            self._left = size
            self._count(size)
        return pieces

    def _partial_size_line(self, held: bytes) -> bytes:
        line = held
        if self._size_line is _NEXT_SIZE:
            if not held.startswith(b"\r\n"[: len(held)]):
                raise BadResponse("a chunk of the body is longer than its size says")
            line = held[2:]
        if b"\n" in line or len(line) > _MAX_SIZE_LINE_BYTES:
            raise BadResponse(f"a chunk of the body begins with {line[:40]!r}, which is no size")
        return held

    def _read_trailers(self, data: bytes) -> list[bytes]:
        """Passes over the trailers: nothing here needs any."""
        held = self._held + data
        if held.startswith(b"\r\n"):
            self._end(held[2:])
            return []
        end = held.find(b"\r\n\r\n")
        if end >= 0:
            self._end(held[end + 4 :])
            return []
        if len(held) > self._limits.head_bytes:
            raise BadResponse(f"the response's trailers are longer than {self._limits.head_bytes} bytes")
        self._held = held
        return []

    def _read_length(self, data: bytes) -> list[bytes]:
        if len(data) < self._left:
            self._left -= len(data)
            return [data] if data else []
        piece, rest = data[: self._left], data[self._left :]
        self._end(rest)
        return [piece] if piece else []

    def _read_until_close(self, data: bytes) -> list[bytes]:
        self._count(len(data))
        return [data]

    def _read_nothing(self, data: bytes) -> list[bytes]:
        self.rest += data
        return []

    def _count(self, size: int) -> None:
        self._body_bytes += size
        if self._body_bytes > self._limits.body_bytes:
            raise BadResponse(f"the response's body is longer than {self._limits.body_bytes} bytes")

    def _end(self, rest: bytes) -> None:
        self.complete = True
        self._held = b""
        self._left = 0
        self.rest = rest
        self._read = self._read_nothing
