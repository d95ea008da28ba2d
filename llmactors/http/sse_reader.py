"""Server-sent events, read from bytes in whatever pieces they come. Pure.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import msgspec

_BOM = b"\xef\xbb\xbf"
MAX_EVENT_BYTES = 1 << 20


class BadEventStream(ValueError):
    """An event, or a line of the stream, is longer than the reader's bound."""


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """One event.

    A msgspec struct, since one is made for each token of a stream, and no other frozen class is made as fast.
    """

    data: bytes
    """UTF-8, as the server sent it. Several `data` lines are joined with line feeds."""
    name: str = "message"
    """The event's type."""
    id: str | None = None
    """The value of the event's own `id` field; None where the event has none."""


class SseReader:
    """The reader of one stream. Comments and `retry` are passed over.

    A line of the form `error: {…}`, which older releases of llama.cpp's server send, is read as an event named `error`.

    Args:
        max_event_bytes: The bound on the data of one event, and on one line.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._begun = False
        self._skips_line_feed = False
        """The last piece ended with a carriage return: a line feed right behind it belongs to the same line end."""
        self._parts: list[bytes] = []
        """The line that is not complete, as it came."""
        self._parts_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._name = "message"
        self._id: str | None = None
        self.last_id = ""
        """The id that a client names when it comes back: that of the last event which had one."""

    def __repr__(self) -> str:
        return f"<SseReader last_id={self.last_id!r}, {self._parts_bytes} bytes of a line>"

    @property
    def in_event(self) -> bool:
        """Whether an event has begun that is not complete."""
        return self._parts_bytes > 0 or bool(self._data) or self._id is not None or self._name != "message"

    def feed(self, piece: bytes) -> list[SseEvent]:
        """Takes the next bytes, and returns the events that they complete. Raises `BadEventStream`."""
        if not self._begun:
            piece = self._without_mark(piece)
        if self._skips_line_feed and piece:
            self._skips_line_feed = False
            piece = piece.removeprefix(b"\n")
        has_return = b"\r" in piece
        if not has_return and b"\n" not in piece:
            self._keep(piece)
            return []
        if self._parts:
            self._parts.append(piece)
            piece = b"".join(self._parts)
            self._parts.clear()
            self._parts_bytes = 0
        if has_return:
            self._skips_line_feed = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = piece.split(b"\n")
        if rest:
            self._keep(rest)
        return self._take(lines)

    def finish(self) -> list[SseEvent]:
        """Takes the end of the stream, and returns the event that lacks only the empty line behind it, if any.

        The specification drops such an event. A caller that can tell a whole event from a cut one need not.
        """
        line = b"".join(self._parts)
        self._parts.clear()
        self._parts_bytes = 0
        return self._take([line, b""] if line else [b""])

    def _take(self, lines: list[bytes]) -> list[SseEvent]:
        events: list[SseEvent] = []
        data = self._data
        for line in lines:
            if line[:6] == b"data: ":
                self._add(line[6:])
            elif not line:
                if data:
                    whole = data[0] if len(data) == 1 else b"\n".join(data)
                    events.append(SseEvent(whole, self._name, self._id))
                    data.clear()
                    self._data_bytes = 0
                self._name = "message"
                self._id = None
            elif line[0] != 58:  # a colon begins a comment
                self._field(line)
        return events

    def _field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._add(value)
        elif field == b"event":
            self._name = value.decode(errors="replace") or "message"
        elif field == b"id":
            if b"\0" not in value:
                self._id = self.last_id = value.decode(errors="replace")
        elif field == b"error":
            self._name = "error"
            self._add(value)

    def _add(self, value: bytes) -> None:
        self._data_bytes += len(value) + 1
        if self._data_bytes > self._max_event_bytes:
            raise BadEventStream(f"an event is longer than {self._max_event_bytes} bytes")
        self._data.append(value)

    def _keep(self, piece: bytes) -> None:
        # A list, not one growing string: a long line that comes byte by byte would be copied once per byte.
        self._parts_bytes += len(piece)
        if self._parts_bytes > self._max_event_bytes:
            raise BadEventStream(f"a line is longer than {self._max_event_bytes} bytes")
        if piece:
            self._parts.append(piece)

    def _without_mark(self, piece: bytes) -> bytes:
        """Drops a byte order mark from the beginning of the stream, also one that comes in several pieces."""
        piece = b"".join([*self._parts, piece])
        self._parts.clear()
        self._parts_bytes = 0
        if len(piece) < len(_BOM) and _BOM.startswith(piece):
            self._keep(piece)
            return b""
        self._begun = True
        return piece.removeprefix(_BOM)
