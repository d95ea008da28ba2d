"""Cuts a growing text before the first stop string. Pure.

The end of a text that may be the beginning of a stop string is held back until the next piece decides.
"""

from collections.abc import Sequence


class StopStrings:
    """One growing text. Empty stop strings are ignored."""

    __slots__ = ("_held", "_stops", "stop")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.stop = ""
        """The stop string at which the text has ended; empty before that."""

    @property
    def is_given(self) -> bool:
        """Whether there is any stop string."""
        return bool(self._stops)

    @property
    def stopped(self) -> bool:
        """Whether the text has ended at a stop string."""
        return bool(self.stop)

    @property
    def holds_text(self) -> bool:
        """Whether the end of the text so far is held back."""
        return bool(self._held)

    def feed(self, piece: str) -> str:
        """Adds `piece` to the text, and returns the new part that is certain to be shown."""
        text = self._held + piece
        found = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            at, self.stop = min(found)
            self._held = ""
            return text[:at]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Ends the text, and returns the part that was held back."""
        held, self._held = self._held, ""
        return held

    def __repr__(self) -> str:
        return f"<StopStrings {self._stops!r} stopped={self.stopped} holding {len(self._held)} characters>"


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that is a beginning of `stop`, but not all of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
