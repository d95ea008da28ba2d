"""From the tokens of a log to the pieces of an answer. Pure.

The pieces follow from the request and its log alone, so every gateway shows the same, before and after any crash.
"""

from collections.abc import Iterable

from llmactors.messages import FinishReason, GenerateRequest, TokenDelta
from llmactors.tool_calls.formats import FORMATS
from llmactors.tool_calls.pieces import Content, Piece
from llmactors.tool_calls.reasoning import ReasoningSplit


def needs_fold(request: GenerateRequest) -> bool:
    """Whether the answer may have other pieces than content. Otherwise each text of the log is content as it is."""
    return request.tools is not None or request.reasoning_tags is not None


class AnswerFold:
    """The fold of one answer. Feed all tokens of the log from its beginning, then call `end`."""

    def __init__(self, request: GenerateRequest) -> None:
        kind = None if request.tools is None else FORMATS.get(request.tools.format)
        self._parser = None if kind is None else kind.parser(request.id)
        tags = request.reasoning_tags
        self._split = None if tags is None else ReasoningSplit(tags, "" if kind is None else kind.trigger)

    def __repr__(self) -> str:
        return f"<AnswerFold after {self.calls} calls>"

    @property
    def calls(self) -> int:
        """How many calls of tools have begun."""
        return 0 if self._parser is None else self._parser.calls

    def feed(self, delta: TokenDelta) -> list[Piece]:
        """The pieces that the next token of the log completes."""
        if not delta.text:
            return []
        if self._split is None:
            return self._parse(delta.text)
        return self._parsed(self._split.feed(delta.text))

    def end(self) -> list[Piece]:
        """The last pieces, after the last token of the log."""
        found = [] if self._split is None else self._parsed(self._split.end())
        return found if self._parser is None else [*found, *self._parser.end()]

    def reason(self, reason: FinishReason) -> str:
        """Why the answer ended, as OpenAI's clients read it: `tool_calls` for a complete answer with calls."""
        return "tool_calls" if self.calls and reason == "stop" else reason

    def _parse(self, text: str) -> list[Piece]:
        return [Content(text)] if self._parser is None else self._parser.feed(text)

    def _parsed(self, pieces: Iterable[Piece]) -> list[Piece]:
        found: list[Piece] = []
        for piece in pieces:
            found += self._parse(piece.text) if isinstance(piece, Content) else [piece]
        return found


def fold_answer(request: GenerateRequest, deltas: Iterable[TokenDelta], *, is_over: bool = True) -> list[Piece]:
    """The pieces of a log. With `is_over` the log has ended, and text that is not decided yet is content."""
    fold = AnswerFold(request)
    found = [piece for delta in deltas for piece in fold.feed(delta)]
    return [*found, *fold.end()] if is_over else found
