"""Answers of HTTP/1.1 servers, from bytes in whatever pieces they come. Pure.

While the clock runs an answer is only stored: where it ends is told from its head and its last bytes. That fails for a
chunked body which holds a line of nothing but `0` and an empty line after it, just where a read ends: JSON holds no
such lines, and so neither do the streams of these servers. Nor are trailers understood, which none of them sends.
"""

import bisect
from collections.abc import Mapping

import attrs

from llmactors.load.answer import Answer, Malformed

LAST_CHUNK = b"\r\n0\r\n\r\n"
_CHUNKED, _UNTIL_CLOSE = 0, -1


@attrs.define(eq=False)
class HttpAnswer(Answer):
    """One HTTP response."""

    _total: int | None = None
    """How long it will be with its head; None before the head is here."""

    def feed(self, data: bytes, now: float) -> bool:
        held = self.data
        held += data
        self.read_ends.append(len(held))
        self.read_times.append(now)
        if self._total is None and not self._read_head():
            return False
        if self._total == _CHUNKED:
            return held.endswith(LAST_CHUNK)
        return self._total != _UNTIL_CLOSE and len(held) >= self._total  # type: ignore[operator]  # it is known by now

    def feed_eof(self) -> bool:
        return self._total == _UNTIL_CLOSE

    def _read_head(self) -> bool:
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self.data[:end]).lower()
        self.closing = b"\r\nconnection: close" in head or head.startswith(b"http/1.0")
        if b"\r\ntransfer-encoding: chunked" in head:
            self._total = _CHUNKED
        else:
            _, found, rest = head.partition(b"\r\ncontent-length:")
            length = rest.split(b"\r\n")[0].strip()
            self._total = end + 4 + int(length) if found and length.isdigit() else _UNTIL_CLOSE
        return True


@attrs.define(eq=False)
class Handshake(HttpAnswer):
    """The response to the opening of a WebSocket: complete with its head where the protocol is switched."""

    accept: bytes = b""
    """What `Sec-WebSocket-Accept` must be."""

    @property
    def accepted(self) -> bool:
        """Whether frames may follow."""
        head = bytes(self.data[: self.data.find(b"\r\n\r\n") + 2])
        is_ours = b"\r\nsec-websocket-accept: %b\r\n" % self.accept.lower() in head.lower()
        return head.startswith(b"HTTP/1.1 101 ") and is_ours and self.accept in head

    def feed(self, data: bytes, now: float) -> bool:
        whole = super().feed(data, now)
        return whole or (self._total is not None and self.data.startswith(b"HTTP/1.1 101 "))


@attrs.frozen
class Head:
    """A response's head."""

    status: int
    headers: Mapping[str, str]
    end: int
    """Where the body begins."""

    @classmethod
    def parse(cls, raw: bytes) -> "Head":
        end = raw.find(b"\r\n\r\n")
        status_line, *lines = raw[: max(0, end)].decode("latin-1").split("\r\n")
        words = status_line.split(" ")
        if end < 0 or len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise Malformed("malformed_head", repr(raw[:80]))
        pairs = (line.partition(":") for line in lines)
        return cls(int(words[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}, end + 4)


@attrs.define
class Body:
    """A body put together, and the way back from it to the bytes on the wire."""

    data: bytes
    chunk_ends: list[int]
    """Where each chunk ends in `data`; for a body without chunks, each read."""
    raw_ends: list[int]
    """Where each chunk ends in the answer."""

    @classmethod
    def of(cls, answer: Answer, raw: bytes, head: Head) -> "Body":
        """Raises `Malformed`."""
        if "chunked" in head.headers.get("transfer-encoding", "").lower():
            return cls.parse_chunks(raw, head.end)
        raw_ends = [end for end in answer.read_ends if end > head.end]
        return cls(raw[head.end :], [end - head.end for end in raw_ends], raw_ends)

    @classmethod
    def parse_chunks(cls, raw: bytes, begin: int) -> "Body":
        """A chunked body that begins at `begin`, to its end. Raises `Malformed`."""
        pieces: list[bytes] = []
        chunk_ends: list[int] = []
        raw_ends: list[int] = []
        length = 0
        while True:
            line_end = raw.find(b"\r\n", begin)
            try:
                size = int(raw[begin:line_end].partition(b";")[0], 16)
            except ValueError:
                raise Malformed("malformed_chunk", repr(raw[begin : begin + 20])) from None
            begin = line_end + 2
            end = begin + size
            if size < 0 or raw[end : end + 2] != b"\r\n":
                raise Malformed("malformed_chunk", f"no line end after {size} bytes")
            if size == 0:
                if end + 2 != len(raw):
                    raise Malformed("malformed_chunk", "bytes after the last chunk")
                return cls(b"".join(pieces), chunk_ends, raw_ends)
            pieces.append(raw[begin:end])
            length += size
            chunk_ends.append(length)
            raw_ends.append(end)
            begin = end + 2

    def place(self, end: int) -> tuple[int, int]:
        """Which chunk completes the first `end` bytes of `data`, and where in the answer that is."""
        chunk = bisect.bisect_left(self.chunk_ends, end)
        return chunk, self.raw_ends[chunk] - (self.chunk_ends[chunk] - end)
