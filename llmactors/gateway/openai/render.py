"""What OpenAI's clients get. Pure, and the hot path: of a chunk only its text is rendered each time.

A stream has `data:` lines and nothing else: the official client stumbles over `id:` beside comments, and other readers
over `event:`. The role comes with the first text. What cannot be finished ends with an error, and without `[DONE]`.
"""

from typing import Any

import msgspec

from llmactors.errors import Interrupted, LlmactorsError, from_code
from llmactors.gateway.native.events import usage_object
from llmactors.gateway.openai.errors import error_object
from llmactors.ledger import LogSlice
from llmactors.messages import Failed, Finished, Terminal, TokenDelta, Usage

_encode = msgspec.json.encode

DONE = b"data: [DONE]\n\n"


class ChunkRenderer:
    """Renders one choice of a stream. While `is_last` the stream ends with it: the usage and `[DONE]` follow."""

    keep_alive = b""

    def __init__(
        self, kind: "Kind", answer_id: str, model: str, created: int, *, index: int = 0, with_usage: bool = False
    ) -> None:
        self._kind = kind
        self._head = {"id": answer_id, "object": kind.chunk_object, "created": created, "model": model}
        self._index = index
        self._is_first = True
        self._with_usage = with_usage
        self.is_last = True
        before, _, after = _encode(self._chunk("\0", None)).partition(rb'"\u0000"')
        self._before, self._after = b"data: " + before, after + b"\n\n"

    def render(self, part: LogSlice) -> bytes:
        """All of `part`, ready to be one write."""
        pieces: list[bytes] = []
        for delta in part.deltas:
            if self._is_first:
                pieces.append(self._first(delta))
            elif delta.text:
                pieces += (self._before, _encode(delta.text), self._after)
        if part.end is not None:
            pieces.append(self._last(part.end))
        return b"".join(pieces)

    def _first(self, delta: TokenDelta) -> bytes:
        self._is_first = False
        return _event(self._chunk(delta.text, None, role=True))

    def _last(self, end: Terminal) -> bytes:
        error = error_of(end)
        if error is not None:
            return render_error(error)
        assert isinstance(end, Finished)  # noqa: S101 - what else has no error
        pieces = [_event(self._chunk("", None, role=True))] if self._is_first else []
        pieces.append(_event(self._chunk(None, end.reason)))
        if self.is_last:
            pieces.append(self.render_end(end.usage))
        return b"".join(pieces)

    def render_end(self, usage: Usage) -> bytes:
        """What follows on the last choice."""
        if not self._with_usage:
            return DONE
        return _event({**self._head, "choices": [], "usage": usage_object(usage)}) + DONE

    def _chunk(self, text: str | None, reason: str | None, *, role: bool = False) -> dict[str, Any]:
        choice = self._kind.choice(self._index, text, reason, role=role)
        return {**self._head, "choices": [choice], **({"usage": None} if self._with_usage else {})}


class Kind:
    """What chat completions and completions differ in."""

    def __init__(self, *, chat: bool) -> None:
        self._chat = chat
        self.chunk_object = "chat.completion.chunk" if chat else "text_completion"
        self._object = "chat.completion" if chat else "text_completion"
        self._prefix = "chatcmpl-" if chat else "cmpl-"

    def answer_id(self, request_id: str) -> str:
        """The answer's id, which its stream's id can be read from."""
        return self._prefix + request_id.removeprefix("req_")

    def choice(self, index: int, text: str | None, reason: str | None, *, role: bool) -> dict[str, Any]:
        """A choice within a chunk."""
        if not self._chat:
            return {"index": index, "text": text or "", "logprobs": None, "finish_reason": reason}
        delta: dict[str, Any] = {"role": "assistant"} if role else {}
        if text is not None:
            delta["content"] = text
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}

    def whole(self, answer_id: str, model: str, created: int, logs: list[LogSlice]) -> dict[str, Any]:
        """A whole answer. Raises the error of the first choice that could not be finished."""
        choices: list[dict[str, Any]] = []
        usages: list[Usage] = []
        for index, log in enumerate(logs):
            assert log.end is not None  # noqa: S101 - they were waited for
            error = error_of(log.end)
            if error is not None:
                raise error
            assert isinstance(log.end, Finished)  # noqa: S101 - what else has no error
            usages.append(log.end.usage)
            choices.append(self._whole_choice(index, "".join(delta.text for delta in log.deltas), log.end.reason))
        usage = add_up(usages)
        head = {"id": answer_id, "object": self._object, "created": created, "model": model}
        return {**head, "choices": choices, "usage": usage_object(usage)}

    def _whole_choice(self, index: int, text: str, reason: str) -> dict[str, Any]:
        if not self._chat:
            return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}


def add_up(usages: list[Usage]) -> Usage:
    """Of several choices: their prompts count each, as each was read."""
    return Usage(sum(usage.prompt_tokens for usage in usages), sum(usage.completion_tokens for usage in usages))


def error_of(end: Terminal) -> LlmactorsError | None:
    """Why an answer is not whole; None where it is."""
    if isinstance(end, Failed):
        return from_code(end.code, end.message)
    return Interrupted("the request was cancelled") if end.reason == "cancelled" else None


def render_error(error: LlmactorsError) -> bytes:
    """The last event of a stream that cannot be finished."""
    return _event(error_object(error))


def _event(payload: object) -> bytes:
    return b"data: %b\n\n" % _encode(payload)
