"""The log probabilities of a chunk, in the forms of the chat route and of the completions route. Pure."""

import builtins
import operator
from collections.abc import Iterator
from typing import Annotated

import msgspec

from llmactors.backends.openai.responses.chunk_body import BadChunk
from llmactors.messages import TokenLogprob, TopLogprob

NO_TOKEN = -1
"""The id of a token whose id the upstream did not send. No model has a token with this id, so no other backend can take
it for one of its own; a takeover continues from the texts."""
_MAX_TOKENS = 4096


class _Probable(msgspec.Struct):
    token: str
    logprob: float | None = None
    bytes: list[Annotated[int, msgspec.Meta(ge=0, le=255)]] | None = None

    @property
    def utf8(self) -> builtins.bytes:
        return self.token.encode("utf-8", "replace") if self.bytes is None else builtins.bytes(self.bytes)


class _Probability(_Probable):
    top_logprobs: list[_Probable] | None = None


class _Logprobs(msgspec.Struct):
    """The form of the chat route, and then that of the completions route."""

    content: list[_Probability] | None = None
    refusal: list[_Probability] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


_decode = msgspec.json.Decoder(_Logprobs | None).decode


def read_logprobs(raw: bytes) -> tuple[TokenLogprob, ...]:
    """The probabilities in a choice's `logprobs`. Raises `BadChunk`."""
    try:
        found = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadChunk(f"the `logprobs` of a chunk are not of OpenAI's form: {error}") from error
    if found is None:
        return ()
    most = max(map(len, (found.content or (), found.refusal or (), found.tokens or ())))
    if most > _MAX_TOKENS:
        raise BadChunk(f"a chunk has the log probabilities of {most} tokens; at most {_MAX_TOKENS} are read")
    return tuple(_token_logprobs(found))


def _token_logprobs(found: _Logprobs) -> Iterator[TokenLogprob]:
    for one in (*(found.content or ()), *(found.refusal or ())):
        if one.logprob is not None:
            tops = [each for each in one.top_logprobs or () if each.logprob is not None]
            yield TokenLogprob(
                one.utf8, one.logprob, tuple(TopLogprob(NO_TOKEN, each.utf8, each.logprob or 0.0) for each in tops)
            )
    tops_of = found.top_logprobs or ()
    for place, (token, logprob) in enumerate(zip(found.tokens or (), found.token_logprobs or (), strict=False)):
        top = tops_of[place] if place < len(tops_of) else None
        pairs = sorted((top or {}).items(), key=operator.itemgetter(1), reverse=True)
        if logprob is not None:
            yield TokenLogprob(
                token.encode("utf-8", "replace"),
                logprob,
                tuple(TopLogprob(NO_TOKEN, text.encode("utf-8", "replace"), each) for text, each in pairs),
            )
