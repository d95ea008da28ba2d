"""Removes from the stream of an upstream what the client has already. Pure."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from llmactors.backends.openai.continuation.strategy import CONTENT, REASONING, LoggedAnswer, Part
from llmactors.backends.openai.responses.chunks import NO_TOKEN, Chunk
from llmactors.messages import ToolCallDelta


class Diverged(ValueError):
    """The upstream makes another answer than the one that the client has a part of."""


class OverlapFilter(Protocol):
    """Removes a part of a stream."""

    def filter(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """The chunks without what the client has. Raises `Diverged`."""
        ...


class WhitespaceFilter:
    """Takes white space from the beginning of a continued text.

    Chat templates drop the white space at the end of a message. So a text is sent without it, and the model writes it
    again.
    """

    def __init__(self, space: str) -> None:
        self._space = space

    def __repr__(self) -> str:
        return f"<WhitespaceFilter {self._space!r}>"

    def filter(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """The chunks without the white space, as far as it is the same."""
        if not self._space:
            return list(chunks)
        return [self._trimmed(chunk) for chunk in chunks]

    def _trimmed(self, chunk: Chunk) -> Chunk:
        text = chunk.text
        while text and self._space:
            if text[0] != self._space[0]:
                self._space = ""
                break
            text, self._space = text[1:], self._space[1:]
        if text == chunk.text:
            return chunk
        # The log has the probabilities of a token whose text it has.
        return msgspec.structs.replace(chunk, text=text, logprobs=chunk.logprobs if text else ())


class TokenIdFilter:
    """Removes the ids of tokens that the log has already, but not their text, which the log lacks.

    Where the stream makes other tokens, their text goes to the next token, whose id stands for no text then: it becomes
    unknown, so that no server goes on behind ids that do not belong to the text.
    """

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = tuple(ids)
        self._taken = 0
        self._text = ""
        """The text of other tokens than those of the log, which no token carries yet."""
        self._is_other = False
        """Whether other tokens were made, and no later token is marked for that yet."""

    def __repr__(self) -> str:
        return f"<TokenIdFilter of {len(self._ids)} tokens, {self._taken} taken>"

    def filter(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """The chunks without the ids."""
        return [self._filter(chunk) for chunk in chunks]

    def _filter(self, chunk: Chunk) -> Chunk:
        count = len(self._ids)
        tokens = None if chunk.completion_tokens is None else max(0, chunk.completion_tokens - count)
        expected = self._ids[self._taken : self._taken + len(chunk.ids)]
        dropped, ids = chunk.ids[: len(expected)], chunk.ids[len(expected) :]
        self._taken += len(expected)
        self._is_other = self._is_other or dropped != expected
        text = self._text + chunk.text
        self._text = ""
        if text and dropped and not ids and chunk.finish is None and not chunk.done:
            self._text, text = text, ""
        elif text and self._is_other:
            ids, self._is_other = (NO_TOKEN,) * max(1, len(ids)), False
        return msgspec.structs.replace(
            chunk, text=text, ids=ids, logprobs=chunk.logprobs[len(expected) :], completion_tokens=tokens
        )


class ReplayFilter:
    """Removes the beginning that the client has from an answer that is made again."""

    def __init__(self, logged: LoggedAnswer) -> None:
        self._left = [(part, text) for part, text in logged.parts if text]
        """What the client has and the stream has not made again, the next text last."""
        self._left.reverse()
        self._count = logged.count
        self._ids = 0
        """How many ids the stream has made."""

    def __repr__(self) -> str:
        return f"<ReplayFilter with {len(self._left)} texts left>"

    def filter(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """The chunks behind what the client has. Raises `Diverged`."""
        return [self._filter(chunk) for chunk in chunks]

    def _filter(self, chunk: Chunk) -> Chunk:
        known = max(0, self._count - self._ids)
        self._ids += len(chunk.ids)
        tokens = None if chunk.completion_tokens is None else max(0, chunk.completion_tokens - self._count)
        kept = msgspec.structs.replace(chunk, completion_tokens=tokens, ids=chunk.ids[known:])
        if self._left:
            # The order of the parts within a chunk is the order in which the log has them.
            reasoning = self._rest(REASONING, chunk.reasoning)
            calls = tuple(filter(None, map(self._call, chunk.tool_calls)))
            kept = msgspec.structs.replace(
                kept, reasoning=reasoning, tool_calls=calls, text=self._rest(CONTENT, chunk.text), logprobs=()
            )
        if self._left and (chunk.finish is not None or chunk.done):
            raise Diverged
        return kept

    def _call(self, call: ToolCallDelta) -> ToolCallDelta | None:
        name = self._rest(("name", call.index), call.name)
        arguments = self._rest(("arguments", call.index), call.arguments)
        if not name and not arguments:
            return None
        # The call keeps the id that the client has got with the name.
        return ToolCallDelta(call.index, "" if call.name and not name else call.id, name, arguments)

    def _rest(self, part: Part, text: str) -> str:
        """The part of a text that the client does not have."""
        while text and self._left:
            expected_part, expected = self._left[-1]
            size = min(len(text), len(expected))
            if expected_part != part or text[:size] != expected[:size]:
                raise Diverged
            text = text[size:]
            self._left.pop()
            if size < len(expected):
                self._left.append((part, expected[size:]))
        return text
