"""From token ids to the text that each id adds. Pure.

The text of a token depends on the tokens before it and on nothing else. So a takeover feeds the logged ids again, drops
the text, and is in the state of the worker that began the answer, also inside of a character or of a stop string.
"""

import codecs
from collections.abc import Sequence

from llmactors.backends.llama.vocabulary import Vocabulary
from llmactors.backends.stop_strings import StopStrings


class Detokenizer:
    """The text of one answer while it grows. Bytes that are no UTF-8 become U+FFFD."""

    def __init__(self, vocabulary: Vocabulary, stop: Sequence[str]) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = StopStrings(stop)

    def __repr__(self) -> str:
        return f"<Detokenizer holding {self._decoder.getstate()[0]!r}, {self._stops!r}>"

    @property
    def stopped(self) -> bool:
        """Whether the text has reached a stop string: nothing may follow."""
        return self._stops.stopped

    @property
    def stop(self) -> str:
        """The stop string that the text has reached; empty before that."""
        return self._stops.stop

    @property
    def holds_text(self) -> bool:
        """Whether text is held back that may belong to a stop string."""
        return self._stops.holds_text

    def feed(self, token: int, *, last: bool, may_stop: bool = True) -> str:
        """The text that `token` adds. The `last` token also adds the text that was held back.

        Nothing is added after a stop string. The text of a token that may not stop the answer is in no stop string.
        """
        if self.stopped:
            return ""
        text = self._decoder.decode(self._vocabulary.piece(token), final=last)
        if not may_stop:
            return text
        shown = self._stops.feed(text)
        return shown + self._stops.flush() if last and not self.stopped else shown
