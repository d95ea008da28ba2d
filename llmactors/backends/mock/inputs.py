"""What the mock makes of the inputs of a request: vectors and scores. Both are functions of the request alone. Pure."""

import hashlib
import math
import struct

from llmactors.backends.mock.oracle import mock_prompt_tokens
from llmactors.messages import FinishReason, GenerateRequest, TokenDelta, TokenExtra

_NUMBER_BYTES = 2


def mock_vector(given: str | tuple[int, ...], dimensions: int) -> tuple[float, ...]:
    """The vector of one input, of length 1. A shorter vector has the direction of the beginning of a longer one."""
    text = given if isinstance(given, str) else " ".join(map(str, given))
    raw = hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(dimensions * _NUMBER_BYTES)
    # Odd numbers, so that no vector is zero.
    numbers = [2 * number + 1 for number in struct.unpack(f"<{dimensions}h", raw)]
    length = math.sqrt(sum(number * number for number in numbers))
    return tuple(number / length for number in numbers)


def mock_score(query: str, document: str) -> float:
    """The share of the words of the query that the document has, and a little that only depends on the document."""
    asked, found = set(query.split()), set(document.split())
    [more] = hashlib.blake2b(document.encode("utf-8", "surrogatepass"), digest_size=1).digest()
    return (len(asked & found) + more / 256) / (len(asked) + 1)


class MockInputs:
    """The vectors or scores of one request, of which `taken` are in the log already."""

    __slots__ = ("_dimensions", "_inputs", "_query", "finish", "prompt_tokens", "seq")

    def __init__(self, request: GenerateRequest, *, dimensions: int, taken: int = 0) -> None:
        self._inputs = request.inputs
        self._query = request.query
        self._dimensions = min(dimensions, request.dimensions or dimensions)
        self.prompt_tokens = sum(
            mock_prompt_tokens(each) if isinstance(each, str) else len(each) for each in request.inputs
        )
        if request.query is not None:
            self.prompt_tokens += mock_prompt_tokens(request.query) * len(request.inputs)
        self.seq = taken
        """How many vectors or scores there are so far."""
        self.finish: FinishReason | None = "stop" if taken >= len(self._inputs) else None

    def advance(self) -> TokenDelta:
        """Makes the next vector or score, and sets `finish` with the last one. Must not be called after that."""
        given = self._inputs[self.seq]
        self.seq += 1
        if self.seq >= len(self._inputs):
            self.finish = "stop"
        if self._query is not None:
            return TokenDelta(0, "", TokenExtra(score=mock_score(self._query, str(given))))
        vector = mock_vector(given, self._dimensions)
        return TokenDelta(0, "", TokenExtra(embedding=struct.pack(f"<{len(vector)}f", *vector)))

    def __repr__(self) -> str:
        return f"<MockInputs {self.seq} of {len(self._inputs)} finish={self.finish}>"
