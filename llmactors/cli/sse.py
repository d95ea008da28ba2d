"""Reading server-sent events. Source of the format: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

from collections.abc import Iterable, Iterator

import attrs


@attrs.frozen
class Event:
    """One event."""

    name: str
    id: str
    """Empty where it has none."""
    data: str


@attrs.define
class EventParser:
    """Takes bytes in any pieces, gives whole events. Enough of the format for our own servers."""

    _buffer: bytes = b""

    def feed(self, piece: bytes) -> list[Event]:
        """The events that `piece` completes."""
        *blocks, self._buffer = (self._buffer + piece).split(b"\n\n")
        found = (self._event(block) for block in blocks)
        return [event for event in found if event is not None]

    @staticmethod
    def _event(block: bytes) -> Event | None:
        fields: dict[str, str] = {}
        for line in block.decode().split("\n"):
            name, _, value = line.partition(":")
            if name:  # a line that begins with a colon is a comment
                fields[name] = value.removeprefix(" ")
        if "data" not in fields:
            return None
        return Event(fields.get("event", "message"), fields.get("id", ""), fields["data"])


def events(pieces: Iterable[bytes]) -> Iterator[Event]:
    """All events of a body."""
    parser = EventParser()
    for piece in pieces:
        yield from parser.feed(piece)
