"""What the mock answers, as a pure function of the request: the oracle that tests compare a stream with.

Token `seq` (counted from 1, as in the log) depends on the prompt, the seed and `seq` alone. Its text is a word and 16
bits in hexadecimal (" lamp07c4"), one of four million, so that a lost, repeated or swapped token changes the text with
near certainty.
"""

import hashlib

from llmactors.backends.stop_strings import StopStrings
from llmactors.messages import FinishReason, GenerateRequest, TokenDelta

_WORD_LIST = """
acre alder amber ash bark basin birch bloom branch brook cedar clay cliff cloud coast coral
crane creek dawn delta dune dusk elm ember fern field fjord flint fog frost gale glade
grove gull harbor hazel heath hill ivy jade lake lamp larch leaf marsh mist moon moss
oak opal pine pond rain reed ridge river sage shore sky snow stone storm tide willow
"""
_WORDS = tuple(" " + word for word in _WORD_LIST.split())
_HEX = tuple(f"{number:02x}" for number in range(256))
_MASK_64 = (1 << 64) - 1


def sequence_hash(prompt: str, seed: int | None) -> int:
    """64 bits that stand for the prompt and the seed; no seed counts as 0. Computed once per sequence."""
    digest = hashlib.blake2b(f"{seed or 0}\0{prompt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def token_of(base: int, seq: int) -> TokenDelta:
    """Token `seq` of the sequence that `base` stands for. The hot path: one multiplication, no hashing.

    The mix is the first half of SplitMix64's (Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number
    Generators"), whose upper bits are the good ones.
    """
    mixed = (base + seq * 0x9E3779B97F4A7C15) & _MASK_64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    token = mixed >> 42
    return TokenDelta(token, _WORDS[token >> 16] + _HEX[token >> 8 & 0xFF] + _HEX[token & 0xFF])


def mock_token(prompt: str, seed: int | None, seq: int) -> TokenDelta:
    """Token `seq`, counted from 1, before stop strings are looked at."""
    return token_of(sequence_hash(prompt, seed), seq)


def mock_prompt_tokens(prompt: str) -> int:
    """The mock's tokenizer: words between white space; at least 1."""
    return len(prompt.split()) or 1


class MockSequence:
    """One sequence, positioned after its first `taken` tokens, which another backend made.

    Where the request has stop strings the position is found by making those tokens again: the text held back at that
    place is not in the log, but it follows from the tokens.
    """

    __slots__ = ("_base", "_eos_one_in", "_max_tokens", "_stops", "finish", "prompt_tokens", "seq")

    def __init__(self, request: GenerateRequest, *, eos_one_in: int = 0, taken: int = 0) -> None:
        self._base = sequence_hash(request.text, request.seed)
        self._max_tokens = request.max_tokens
        self._eos_one_in = eos_one_in
        self._stops = StopStrings(request.stop) if any(request.stop) else None
        self.prompt_tokens = mock_prompt_tokens(request.text)
        self.seq = 0 if self._stops else max(0, taken - 1)
        """How many tokens there are."""
        self.finish: FinishReason | None = None
        """Why it ended, once it has. May be set from the beginning: the log can be whole but for its terminal event."""
        while self.seq < taken and self.finish is None:
            self.advance()

    def advance(self) -> TokenDelta:
        """Makes the next token; sets `finish` with the last. Not to be called after that."""
        self.seq += 1
        delta = token_of(self._base, self.seq)
        if self._eos_one_in and delta.token % self._eos_one_in == 0:
            self.finish = "stop"
        elif self.seq >= self._max_tokens:
            self.finish = "length"
        return delta if self._stops is None else self._cut(delta, self._stops)

    def _cut(self, delta: TokenDelta, stops: StopStrings) -> TokenDelta:
        text = stops.feed(delta.text)
        if stops.stopped:
            self.finish = "stop"
        elif self.finish is not None:
            text += stops.flush()
        return TokenDelta(delta.token, text)

    def __repr__(self) -> str:
        return f"<MockSequence after token {self.seq} of {self._max_tokens} finish={self.finish}>"


def mock_tokens(request: GenerateRequest, *, eos_one_in: int = 0) -> tuple[tuple[TokenDelta, ...], FinishReason]:
    """The whole answer to `request`: its tokens and the reason why it ends.

    Args:
        request: `prompt`, `seed`, `max_tokens` and `stop` count; nothing else does.
        eos_one_in: As in the settings of the mock that answers.
    """
    sequence = MockSequence(request, eos_one_in=eos_one_in)
    deltas = []
    while sequence.finish is None:
        deltas.append(sequence.advance())
    return tuple(deltas), sequence.finish


def mock_text(request: GenerateRequest, *, eos_one_in: int = 0) -> str:
    """The text of the whole answer to `request`."""
    return "".join(delta.text for delta in mock_tokens(request, eos_one_in=eos_one_in)[0])
