"""Removes from the stream of an upstream what the client has already. Pure."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from llmactors.backends.openai.chunks import Chunk
from llmactors.backends.openai.continuation import CONTENT, REASONING, LoggedAnswer, Part
from llmactors.messages import ToolCallDelta


class Diverged(ValueError):
    """The upstream makes another answer than the one that the client has a part of."""


class Sieve(Protocol):
    """Removes a part of a stream."""

    def sift(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """The chunks without what the client has. Raises `Diverged`."""
        ...


class SpaceSieve:
    """Takes white space from the beginning of a continued text.

    Chat templates drop the white space at the end of a message. So a text is sent without it, and the model writes it
    again.
    """

    def __init__(self, space: str) -> None:
        self._space = space

    def __repr__(self) -> str:
        return f"<SpaceSieve {self._space!r}>"

    def sift(self, chunks: Sequence[Chunk]) -> list[Chunk]:
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
        return chunk if text == chunk.text else msgspec.structs.replace(chunk, text=text)


class TokenSieve:
    """Removes the ids of tokens that the log has already, but not their text, which the log lacks."""

    def __init__(self, count: int) -> None:
        self._count = self._left = count

    def __repr__(self) -> str:
        return f"<TokenSieve of {self._count} tokens, {self._left} left>"

    def sift(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """The chunks without the ids."""
        return [self._sift(chunk) for chunk in chunks]

    def _sift(self, chunk: Chunk) -> Chunk:
        taken = min(self._left, len(chunk.ids))
        self._left -= taken
        tokens = None if chunk.completion_tokens is None else max(0, chunk.completion_tokens - self._count)
        return msgspec.structs.replace(
            chunk, ids=chunk.ids[taken:], logprobs=chunk.logprobs[taken:], completion_tokens=tokens
        )


class AnswerSieve:
    """Removes the beginning that the client has from an answer that is made again."""

    def __init__(self, logged: LoggedAnswer) -> None:
        self._left = [(part, text) for part, text in logged.parts if text]
        """What the client has and the stream has not made again, the next text last."""
        self._left.reverse()
        self._count = logged.count
        self._ids = 0
        """How many ids the stream has made."""

    def __repr__(self) -> str:
        return f"<AnswerSieve with {len(self._left)} texts left>"

    def sift(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """The chunks behind what the client has. Raises `Diverged`."""
        return [self._sift(chunk) for chunk in chunks]

    def _sift(self, chunk: Chunk) -> Chunk:
        known = max(0, self._count - self._ids)
        self._ids += len(chunk.ids)
        tokens = None if chunk.completion_tokens is None else max(0, chunk.completion_tokens - self._count)
        kept = msgspec.structs.replace(chunk, completion_tokens=tokens, ids=chunk.ids[known:])
        if self._left:
            calls = tuple(filter(None, map(self._call, chunk.tool_calls)))
            reasoning = self._rest(REASONING, chunk.reasoning)
            # The order of the parts within a chunk is the order in which the log has them.
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
        return ToolCallDelta(call.index, call.id, name, arguments)

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
