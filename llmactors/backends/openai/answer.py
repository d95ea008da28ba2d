"""One answer as the chunks of an upstream make it: the deltas of the log. Pure.

A chunk counts as a token. It may be more: then the upstream's own count, which comes at the end, is made up for with
empty deltas, so that what the log counts is what was made. Or less: then the last delta that `max_tokens` leaves room
for takes all the rest. The log's text is always a beginning of the answer, with no part of a stop string in it.
"""

from collections.abc import Sequence

from llmactors.backends.openai.chunks import Chunk
from llmactors.backends.stop_strings import StopStrings
from llmactors.messages import FinishReason, TokenDelta

NO_TOKEN = -1
"""Upstreams tell no ids. The log's digest covers the texts as well, and a takeover continues from these: so all have
one id that no model has, rather than a number which another backend might take for one of its own."""

_MAX_CHARS_PER_TOKEN = 1024


class TextOverrun(ValueError):
    """More came than any tokens so few could say."""


class UpstreamAnswer:
    """The deltas of one exchange. `room`: how many there may be."""

    def __init__(self, stops: Sequence[str], room: int) -> None:
        self._stops = StopStrings(stops)
        self._room = room
        self._made = 0
        self._pending: str | None = None
        """The text of a token not shown yet: its end may begin a stop string, or it is the last there may be."""
        self._chars = 0
        self._held = 0
        """How many characters the stop strings hold back."""
        self._completion_tokens = 0
        self.finish: FinishReason | None = None
        self.prompt_tokens = 0

    def __repr__(self) -> str:
        return f"<UpstreamAnswer {self._made} of {self._room} tokens, finish={self.finish}>"

    @property
    def stopped(self) -> bool:
        """A stop string was met here: nothing that comes can change the answer."""
        return self._stops.stopped

    @property
    def begun(self) -> bool:
        """A token has come, though it may not be shown yet."""
        return self._chars > 0

    def take(self, chunk: Chunk) -> list[TokenDelta]:
        """What may be shown now. Raises `TextOverrun`."""
        self.prompt_tokens = chunk.prompt_tokens or self.prompt_tokens
        self._completion_tokens = chunk.completion_tokens or self._completion_tokens
        shown: list[TokenDelta] = []
        if chunk.text and not self.stopped and self.finish is None:
            shown = self._add(chunk.text)
        if self.stopped:
            self.finish = "stop"
        elif chunk.finish is not None and self.finish is None:
            self.finish = "length" if chunk.finish == "length" else "stop"
        return shown

    def close(self) -> list[TokenDelta]:
        """The last deltas of an answer that is whole."""
        last = [] if self._pending is None else [self._show(self._pending + self._stops.flush())]
        self._pending = None
        missing = min(self._completion_tokens, self._room) - self._made
        return last + [self._show("") for _ in range(missing)]

    def _add(self, piece: str) -> list[TokenDelta]:
        self._chars += len(piece)
        if self._chars > self._room * _MAX_CHARS_PER_TOKEN:
            raise TextOverrun
        text = self._stops.feed(piece)
        self._held += len(piece) - len(text)
        before, self._pending = self._pending, text
        if before is not None and self._made + 1 >= self._room:
            self._pending, before = before + text, None
        shown = [] if before is None else [self._show(before)]
        if (self.stopped or not self._held) and self._made + 1 < self._room:
            shown.append(self._show(text))
            self._pending = None
        return shown

    def _show(self, text: str) -> TokenDelta:
        self._made += 1
        return TokenDelta(NO_TOKEN, text)
