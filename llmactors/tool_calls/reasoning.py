"""Splits the reasoning at the beginning of an answer from the text that follows. Pure."""

from llmactors.messages import ReasoningTags
from llmactors.tool_calls.pieces import Content, Piece, Reasoning
from llmactors.tool_calls.tags import first_of, undecided


class ReasoningSplit:
    """The split of one answer. White space around the tags is dropped.

    Args:
        tags: The tags around the reasoning.
        trigger: The text with which calls begin. A call ends the reasoning too, because the constraint of the answer
            holds from there on.
    """

    def __init__(self, tags: ReasoningTags, trigger: str = "") -> None:
        self._tags = tags
        self._ends = tuple(filter(None, (tags.close, trigger)))
        self._rest = ""
        self._thinks = tags.begun
        self._is_over = False
        self._drops_space = tags.begun

    def __repr__(self) -> str:
        return f"<ReasoningSplit {'after the reasoning' if self._is_over else 'thinks' if self._thinks else 'begins'}>"

    def feed(self, text: str) -> list[Piece]:
        """The reasoning and the content that the next part of the text completes."""
        self._rest += text
        found: list[Piece] = []
        if not self._thinks and not self._is_over:
            self._begin()
        if self._thinks:
            self._think(found)
        if self._is_over:
            if self._drops_space:
                self._rest = self._rest.lstrip()
            if self._rest:
                self._drops_space = False
                found.append(Content(self._rest))
                self._rest = ""
        return found

    def end(self) -> list[Piece]:
        """The last piece, after the last part of the text."""
        text, self._rest = self._rest, ""
        if not text or (self._drops_space and not text.strip()):
            return []
        return [Reasoning(text) if self._thinks else Content(text)]

    def _begin(self) -> None:
        text = self._rest.lstrip()
        if text.startswith(self._tags.open):
            self._thinks = self._drops_space = True
            self._rest = text[len(self._tags.open) :]
        else:
            self._is_over = not self._tags.open.startswith(text)

    def _think(self, found: list[Piece]) -> None:
        if self._drops_space:
            self._rest = self._rest.lstrip()
        first = first_of(self._rest, self._ends)
        if first is None:
            length = len(self._rest) - undecided(self._rest, self._ends)
        else:
            length = len(self._rest[: first[0]].rstrip())
        if length:
            self._drops_space = False
            found.append(Reasoning(self._rest[:length]))
        self._rest = self._rest[length:]
        if first is not None:
            self._thinks, self._is_over, self._drops_space = False, True, True
            self._rest = self._rest.lstrip().removeprefix(self._tags.close)
