"""The log probabilities of an answer, in the forms of OpenAI's routes. Pure.

A token that has no log probabilities in the log is left out: some backends give the tokens of one character, such as an
emoji, a single entry.
"""

import codecs
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from llmactors.http.line_safe_json import encode
from llmactors.messages import TokenDelta, TokenLogprob

MAX_TOP_LOGPROBS = 20
"""The bound of OpenAI's chat route. On the completions route OpenAI's own bound is 5, and that of vLLM is 20."""


def chat_logprobs(deltas: Iterable[TokenDelta]) -> dict[str, Any]:
    """The field `logprobs` of a choice of a chat."""
    return {"content": response_logprobs(deltas), "refusal": None}


def part_logprob(found: TokenLogprob) -> dict[str, Any]:
    """One token, as chats and responses show tokens."""
    top = [_token(each.utf8, each.logprob) for each in found.top]
    return {**_token(found.utf8, found.logprob), "top_logprobs": top}


def response_logprobs(deltas: Iterable[TokenDelta]) -> list[msgspec.Raw]:
    """The field `logprobs` of a part of a response.

    Each token is JSON already. So a long answer is not encoded at one time, and a response that shows its tokens in
    several events encodes each token once.
    """
    return [msgspec.Raw(encode(part_logprob(each))) for each in _found(deltas)]


class CompletionLogprobs:
    """The fields `logprobs` of a choice of a completion, part by part. Feed all deltas of the log in their order."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0
        """How many characters of the text come before the next token."""

    def __repr__(self) -> str:
        return f"<CompletionLogprobs at character {self._offset}>"

    def feed(self, deltas: Iterable[TokenDelta]) -> dict[str, Any]:
        """The field for the next part of the log."""
        tokens: list[str] = []
        logprobs: list[float] = []
        tops: list[dict[str, float]] = []
        offsets: list[int] = []
        for found in _found(deltas):
            tokens.append(_text(found.utf8))
            logprobs.append(found.logprob)
            # Different tokens may have the same text here: the text of the most probable one is kept.
            tops.append({_text(each.utf8): each.logprob for each in reversed(found.top)})
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(found.utf8))
        return {"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets}


def _found(deltas: Iterable[TokenDelta]) -> Iterator[TokenLogprob]:
    for delta in deltas:
        if delta.extra is not None and delta.extra.logprob is not None:
            yield delta.extra.logprob


def _token(utf8: bytes, logprob: float) -> dict[str, Any]:
    return {"token": _text(utf8), "logprob": logprob, "bytes": list(utf8)}


def _text(utf8: bytes) -> str:
    return utf8.decode("utf-8", "replace")
