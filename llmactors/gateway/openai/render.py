"""The answers of chat completions and completions: chunks of a stream, and whole answers. Pure.

Every token of every stream passes here, so the parts that all chunks of a stream share are rendered once. A stream has
`data:` lines and nothing else: the official client fails on `id:` lines together with comments, and other clients fail
on `event:` lines and on comments. The chunk with the first text also has the role. An answer that cannot be finished
ends with an error, and without `[DONE]`.
"""

from typing import Any

from llmactors.errors import Interrupted, LlmactorsError, from_code
from llmactors.gateway.native.events import usage_object
from llmactors.gateway.openai.errors import error_object
from llmactors.http.line_safe_json import encode
from llmactors.ledger import LogSlice
from llmactors.messages import Failed, Finished, Terminal, TokenDelta, Usage

DONE = b"data: [DONE]\n\n"


class ChunkRenderer:
    """Renders one choice of a stream. If `is_last`, the stream ends with this choice: usage and `[DONE]` follow."""

    def __init__(
        self, form: "AnswerForm", answer_id: str, model: str, created: int, *, index: int = 0, with_usage: bool = False
    ) -> None:
        self._form = form
        self._head = {"id": answer_id, "object": form.chunk_object, "created": created, "model": model}
        self._index = index
        self._is_first = True
        self._with_usage = with_usage
        self.is_last = True
        self.keep_alive = _event(self._chunk(None, None))
        """A chunk without text, and no comment, because some clients lose the event after a comment."""
        before, _, after = encode(self._chunk("\0", None)).partition(rb'"\u0000"')
        self._before, self._after = b"data: " + before, after + b"\n\n"

    def render(self, part: LogSlice) -> bytes:
        """All chunks of a slice of the log, as one write."""
        pieces: list[bytes] = []
        for delta in part.deltas:
            if self._is_first:
                pieces.append(self._first(delta))
            elif delta.text:
                pieces += (self._before, encode(delta.text), self._after)
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
        assert isinstance(end, Finished)  # noqa: S101 - every other end has an error
        pieces = [_event(self._chunk("", None, role=True))] if self._is_first else []
        pieces.append(_event(self._chunk(None, end.reason)))
        if self.is_last:
            pieces.append(self.render_end(end.usage))
        return b"".join(pieces)

    def render_end(self, usage: Usage) -> bytes:
        """The events after the last choice."""
        if not self._with_usage:
            return DONE
        return _event({**self._head, "choices": [], "usage": usage_object(usage)}) + DONE

    def _chunk(self, text: str | None, reason: str | None, *, role: bool = False) -> dict[str, Any]:
        choice = self._form.choice(self._index, text, reason, role=role)
        return {**self._head, "choices": [choice], **({"usage": None} if self._with_usage else {})}


class AnswerForm:
    """The form of an answer: of chat completions, or of completions."""

    def __init__(self, *, chat: bool) -> None:
        self._chat = chat
        self.chunk_object = "chat.completion.chunk" if chat else "text_completion"
        self._object = "chat.completion" if chat else "text_completion"
        self._prefix = "chatcmpl-" if chat else "cmpl-"

    def answer_id(self, request_id: str) -> str:
        """The id of the answer, which contains the id of the request's stream."""
        return self._prefix + request_id.removeprefix("req_")

    def choice(self, index: int, text: str | None, reason: str | None, *, role: bool) -> dict[str, Any]:
        """A choice of a chunk."""
        if not self._chat:
            return {"index": index, "text": text or "", "logprobs": None, "finish_reason": reason}
        delta: dict[str, Any] = {"role": "assistant"} if role else {}
        if text is not None:
            delta["content"] = text
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}

    def whole(self, answer_id: str, model: str, created: int, logs: list[LogSlice]) -> dict[str, Any]:
        """A whole answer. Raises the error of the first choice that was not finished."""
        choices: list[dict[str, Any]] = []
        usages: list[Usage] = []
        for index, log in enumerate(logs):
            assert log.end is not None  # noqa: S101 - the end of each was waited for
            error = error_of(log.end)
            if error is not None:
                raise error
            assert isinstance(log.end, Finished)  # noqa: S101 - every other end has an error
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
    """The usage of several choices. The prompt counts once for each choice, because each choice reads it."""
    return Usage(sum(usage.prompt_tokens for usage in usages), sum(usage.completion_tokens for usage in usages))


def error_of(end: Terminal) -> LlmactorsError | None:
    """Why an answer is not complete; None for a complete answer."""
    if isinstance(end, Failed):
        return from_code(end.code, end.message)
    return Interrupted("the request was cancelled") if end.reason == "cancelled" else None


def render_error(error: LlmactorsError) -> bytes:
    """The last event of a stream whose answer cannot be finished."""
    return _event(error_object(error))


def _event(payload: object) -> bytes:
    return b"data: %b\n\n" % encode(payload)
