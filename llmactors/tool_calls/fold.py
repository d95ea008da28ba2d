"""From the tokens of a log to the pieces of an answer. Pure.

The pieces follow from the request and its log alone, so every gateway shows the same, before and after any crash.
"""

from collections.abc import Iterable

from llmactors.messages import FinishReason, GenerateRequest, TokenDelta, TokenExtra
from llmactors.tool_calls.formats import FORMATS
from llmactors.tool_calls.pieces import CallArguments, CallBegun, Content, Piece, Reasoning, call_id
from llmactors.tool_calls.reasoning import ReasoningSplit


def needs_fold(request: GenerateRequest) -> bool:
    """Whether the answer may have other pieces than content. Otherwise each text of the log is content as it is."""
    return request.tools is not None or request.reasoning_tags is not None


class AnswerFold:
    """The fold of one answer. Feed all tokens of the log from its beginning, then call `end`."""

    def __init__(self, request: GenerateRequest) -> None:
        self._id = request.id
        self._structured_calls = 0
        self._upstream_calls: dict[int, tuple[int, str]] = {}
        """The number and the upstream's id of the newest call, by the index that the upstream gives the call."""
        kind = None if request.tools is None else FORMATS.get(request.tools.format)
        self._parser = None if kind is None else kind.parser(request.id)
        tags = request.reasoning_tags
        self._split = None if tags is None else ReasoningSplit(tags, "" if kind is None else kind.trigger)

    def __repr__(self) -> str:
        return f"<AnswerFold after {self.calls} calls>"

    @property
    def calls(self) -> int:
        """How many calls of tools have begun."""
        return self._structured_calls + (0 if self._parser is None else self._parser.calls)

    def feed(self, delta: TokenDelta) -> list[Piece]:
        """The pieces that the next token of the log completes."""
        found = [] if delta.extra is None else self._structured(delta.extra)
        if not delta.text:
            return found
        if self._split is None:
            return found + self._parse(delta.text)
        return found + self._parsed(self._split.feed(delta.text))

    def feed_all(self, deltas: Iterable[TokenDelta]) -> list[Piece]:
        """As `feed`, for several tokens."""
        return [piece for delta in deltas for piece in self.feed(delta)]

    def end(self) -> list[Piece]:
        """The last pieces, after the last token of the log."""
        found = [] if self._split is None else self._parsed(self._split.end())
        return found if self._parser is None else [*found, *self._parser.end()]

    def reason(self, reason: FinishReason) -> str:
        """Why the answer ended, as OpenAI's clients read it: `tool_calls` for a complete answer with calls."""
        return "tool_calls" if self.calls and reason == "stop" else reason

    def _structured(self, extra: TokenExtra) -> list[Piece]:
        """The pieces that an upstream has told apart."""
        found: list[Piece] = [Reasoning(extra.reasoning)] if extra.reasoning else []
        for call in extra.tool_calls:
            known = self._upstream_calls.get(call.index)
            # Some servers repeat the name in each part, and some give all calls the same index.
            if call.name and (known is None or (call.id and call.id != known[1])):
                known = self._upstream_calls[call.index] = self._structured_calls, call.id
                self._structured_calls += 1
                found.append(CallBegun(known[0], call_id(self._id, known[0]), call.name))
            if call.arguments and known is not None:
                found.append(CallArguments(known[0], call.arguments))
        return found

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
    found = fold.feed_all(deltas)
    return [*found, *fold.end()] if is_over else found
