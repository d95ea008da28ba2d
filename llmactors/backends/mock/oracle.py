"""The answers of the mock as a function of the request: the oracle that tests compare streams with. Pure.

Token `seq` (counted from 1, as in the log) depends on the prompt, the seed and `seq` alone. Its text is a word and 16
bits in hexadecimal (" lamp07c4"), one of four million, so that a lost, repeated or swapped token changes the text with
near certainty.
"""

import hashlib

from llmactors.backends.mock.constrained import ConstrainedText
from llmactors.backends.stop_strings import StopStrings
from llmactors.messages import FinishReason, GenerateRequest, TokenDelta, TokenExtra, TokenLogprob, TopLogprob

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
    """A 64-bit hash of the prompt and the seed, computed once per sequence. No seed counts as seed 0."""
    digest = hashlib.blake2b(f"{seed or 0}\0{prompt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def token_of(base: int, seq: int) -> TokenDelta:
    """Token `seq` of the sequence with the hash `base`, by two multiplications.

    The function is the first half of SplitMix64 (Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number
    Generators"). Only its upper bits are used, as the lower ones are less random.
    """
    mixed = (base + seq * 0x9E3779B97F4A7C15) & _MASK_64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    token = mixed >> 42
    return TokenDelta(token, _WORDS[token >> 16] + _HEX[token >> 8 & 0xFF] + _HEX[token & 0xFF])


def logprob_of(delta: TokenDelta, top: int) -> TokenLogprob:
    """How probable the token `delta` is said to be: mostly the most probable one, sometimes the second one."""
    number = delta.token
    own = TopLogprob(number, delta.text.encode("utf-8", "surrogatepass"), -(1 + number % 64) / 64)
    is_second = number % 4 == 0
    others = (
        TopLogprob(number ^ place, _WORDS[(number + place) % len(_WORDS)].encode(), own.logprob - place / 4)
        for place in range(1, top + 1)
    )
    first = TopLogprob(number ^ 0x20, b" the", own.logprob / 2)
    ranked = (first, own, *others) if is_second else (own, *others)
    return TokenLogprob(own.utf8, own.logprob, ranked[:top])


def mock_prompt_tokens(prompt: str) -> int:
    """The number of words in the prompt, at least 1: the mock counts words as prompt tokens."""
    return len(prompt.split()) or 1


def _prompt_of(request: GenerateRequest) -> str:
    """The text of the prompt, and then each image with its place."""
    images = [
        f"\0{number} {image.at} {image.url}"
        for number, message in enumerate(request.messages)
        for image in message.images
    ]
    return "".join((request.text, *images)) if images else request.text


class MockSequence:
    """One sequence, which continues behind the `taken` tokens that another backend made.

    For a request with stop strings or a constraint, those tokens are made again: the text that the stop strings hold
    back at that place, and the place in the grammar, are not in the log, but follow from the tokens.
    """

    __slots__ = (
        "_base",
        "_constrained",
        "_eos_one_in",
        "_is_plain",
        "_max_tokens",
        "_min_tokens",
        "_stops",
        "_top_logprobs",
        "finish",
        "prompt_tokens",
        "seq",
    )

    def __init__(self, request: GenerateRequest, *, eos_one_in: int = 0, taken: int = 0) -> None:
        self._base = sequence_hash(_prompt_of(request), request.seed)
        self._max_tokens = request.max_tokens
        self._min_tokens = request.min_tokens
        self._eos_one_in = 0 if request.ignore_eos else eos_one_in
        self._stops = StopStrings(request.stop) if any(request.stop) else None
        self._constrained = ConstrainedText(request.constraint, self._base) if request.constraint else None
        self._top_logprobs = request.top_logprobs
        self._is_plain = (
            not self._eos_one_in and self._stops is None and self._constrained is None and self._top_logprobs is None
        )
        """Whether only `max_tokens` ends the sequence, and its tokens are those of `token_of`."""
        self.prompt_tokens = mock_prompt_tokens(request.text)
        self.seq = 0 if self._stops or self._constrained else max(0, taken - 1)
        """How many tokens the sequence has so far."""
        self.finish: FinishReason | None = None
        """Why the sequence ended; None before. Set from the beginning where the log lacks only the terminal event."""
        while self.seq < taken and self.finish is None:
            self.advance()

    def advance(self) -> TokenDelta:
        """Makes the next token, and sets `finish` with the last one. Must not be called after that."""
        self.seq += 1
        delta = token_of(self._base, self.seq)
        if self._is_plain:
            if self.seq >= self._max_tokens:
                self.finish = "length"
            return delta
        if self._constrained is not None:
            left = self._max_tokens - self.seq + 1
            delta = TokenDelta(
                delta.token, self._constrained.next(delta.text, self._base ^ delta.token, self.seq, left)
            )
        if self.seq >= self._min_tokens and self._ends_with(delta):
            self.finish = "stop"
        elif self.seq >= self._max_tokens:
            self.finish = "length"
        shown = delta if self._stops is None else self._cut(delta, self._stops)
        if self._top_logprobs is None:
            return shown
        stop = "" if shown.extra is None else shown.extra.stop
        extra = TokenExtra(logprob=logprob_of(delta, self._top_logprobs), stop=stop)
        return TokenDelta(shown.token, shown.text, extra)

    def _ends_with(self, delta: TokenDelta) -> bool:
        """Whether the answer is complete with a token."""
        if self._constrained is not None and not self._constrained.is_free:
            return self._constrained.ended
        return bool(self._eos_one_in) and delta.token % self._eos_one_in == 0

    def _cut(self, delta: TokenDelta, stops: StopStrings) -> TokenDelta:
        text = stops.feed(delta.text) if self.seq >= self._min_tokens else delta.text
        if stops.stopped:
            self.finish = "stop"
        elif self.finish is not None:
            text += stops.flush()
        return TokenDelta(delta.token, text, TokenExtra(stop=stops.stop) if stops.stop else None)

    def __repr__(self) -> str:
        return f"<MockSequence after token {self.seq} of {self._max_tokens} finish={self.finish}>"


def mock_tokens(request: GenerateRequest, *, eos_one_in: int = 0) -> tuple[tuple[TokenDelta, ...], FinishReason]:
    """The whole answer to `request`: its tokens and its finish reason.

    Args:
        request: The answer depends on `prompt`, `seed`, `max_tokens`, `stop`, `min_tokens`,
            `ignore_eos`, `constraint`, `top_logprobs` and the images of `messages` only.
        eos_one_in: As in the settings of the mock.
    """
    sequence = MockSequence(request, eos_one_in=eos_one_in)
    deltas = []
    while sequence.finish is None:
        deltas.append(sequence.advance())
    return tuple(deltas), sequence.finish


def mock_text(request: GenerateRequest, *, eos_one_in: int = 0) -> str:
    """The text of the whole answer to `request`."""
    return "".join(delta.text for delta in mock_tokens(request, eos_one_in=eos_one_in)[0])
