"""Bounds the head of a request before the head is parsed, so that a long head costs less than it cost to send. Pure."""

MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 128


class HeadBounds:
    """Counts the bytes and the lines of a request's head as they arrive."""

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
