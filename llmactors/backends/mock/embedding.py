"""The vectors that the mock makes of inputs for embeddings: a function of the input and the length alone. Pure."""

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


class MockVectors:
    """The vectors of one request for embeddings, of which `taken` are in the log already."""

    __slots__ = ("_dimensions", "_inputs", "finish", "prompt_tokens", "seq")

    def __init__(self, request: GenerateRequest, *, dimensions: int, taken: int = 0) -> None:
        self._inputs = request.inputs
        self._dimensions = min(dimensions, request.dimensions or dimensions)
        self.prompt_tokens = sum(
            mock_prompt_tokens(each) if isinstance(each, str) else len(each) for each in request.inputs
        )
        self.seq = taken
        """How many vectors there are so far."""
        self.finish: FinishReason | None = "stop" if taken >= len(self._inputs) else None

    def advance(self) -> TokenDelta:
        """Makes the next vector, and sets `finish` with the last one. Must not be called after that."""
        vector = mock_vector(self._inputs[self.seq], self._dimensions)
        self.seq += 1
        if self.seq >= len(self._inputs):
            self.finish = "stop"
        return TokenDelta(0, "", TokenExtra(embedding=struct.pack(f"<{len(vector)}f", *vector)))

    def __repr__(self) -> str:
        return f"<MockVectors {self.seq} of {len(self._inputs)} finish={self.finish}>"
