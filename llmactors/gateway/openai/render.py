"""The answers of chat completions and completions: chunks of a stream, and whole answers. Pure.

Every token of every stream passes here, so the parts that all chunks of a stream share are rendered once. A stream has
`data:` lines and nothing else: the official client fails on `id:` lines together with comments, and other clients fail
on `event:` lines and on comments. The chunk with the first text also has the role. An answer that cannot be finished
ends with an error, and without `[DONE]`.

An answer that may have calls of tools or reasoning is folded into pieces, with a chunk for each. The first chunk then
has the role and no content.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from llmactors.errors import Interrupted, LlmactorsError, from_code
from llmactors.gateway.answering_model import answering_model
from llmactors.gateway.openai.assistant_message import message_delta, whole_message
from llmactors.gateway.openai.errors import error_object
from llmactors.gateway.openai.logprobs import CompletionLogprobs, chat_logprobs
from llmactors.http.line_safe_json import encode, escape_separators
from llmactors.ledger import LogSlice
from llmactors.messages import (
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    Terminal,
    TokenDelta,
    TokenExtra,
    Usage,
)
from llmactors.tool_calls.fold import AnswerFold, needs_fold
from llmactors.tool_calls.pieces import Content, Piece

DONE = b"data: [DONE]\n\n"

LogprobsForm = Callable[[Iterable[TokenDelta]], dict[str, Any]]


class ChunkRenderer:
    """Renders one choice of a stream. If `is_last`, the stream ends with this choice: usage and `[DONE]` follow.

    Args:
        form: The form of the answer.
        answer_id: The id of the answer.
        request: The request of the choice.
        index: The number of the choice.
        with_usage: Whether the client wants the usage.
    """

    def __init__(
        self,
        form: "AnswerForm",
        answer_id: str,
        request: GenerateRequest,
        *,
        index: int = 0,
        with_usage: bool = False,
    ) -> None:
        self._form = form
        self._request = request
        self._fold = AnswerFold(request) if needs_fold(request) else None
        self._logprobs = form.logprobs() if request.top_logprobs is not None else None
        self._head = {"id": answer_id, "object": form.chunk_object, "created": created_s(request)}
        self._index = index
        self._is_first = True
        self._with_usage = with_usage
        self.is_last = True
        self.keep_alive = b""
        """A chunk without text, and no comment, because some clients lose the event after a comment."""
        self._name_model(request.model)

    @property
    def note(self) -> dict[str, Any] | None:
        """What `StreamNote` says of this renderer; None for a renderer to which each token matters."""
        request = self._request
        if needs_fold(request):
            return None
        return {
            "created_ms": request.created_ms,
            "top_logprobs": request.top_logprobs,
            "with_usage": self._with_usage,
        }

    def _name_model(self, model: str) -> None:
        self._head["model"] = model
        self.keep_alive = _event(self._chunk(None, None))
        before, _, after = encode(self._chunk("\0", None)).partition(rb'"\u0000"')
        self._before, self._after = b"data: " + before, after + b"\n\n"

    def render(self, part: LogSlice) -> bytes:
        """All chunks of a slice of the log, as one write."""
        chunks: list[bytes] = []
        if self._is_first:
            model = answering_model(self._request, part.deltas)
            if model != self._head["model"]:
                self._name_model(model)
        for delta in part.deltas:
            if self._fold is not None:
                chunks += self._folded(delta)
            elif delta.extra is not None:
                chunks += self._with_extra(delta, delta.extra)
            elif self._is_first:
                chunks.append(self._first(delta.text))
            elif delta.text:
                chunks += (self._before, msgspec.json.encode(delta.text), self._after)
        if part.end is not None:
            chunks.append(self._last(part.end))
        return escape_separators(b"".join(chunks))

    def _first(self, text: str | None) -> bytes:
        self._is_first = False
        return _event(self._chunk(text, None, role=True))

    def _with_extra(self, delta: TokenDelta, extra: TokenExtra) -> Iterator[bytes]:
        """The chunks of a token that carries more than its text."""
        if self._form.is_chat and (extra.reasoning or extra.tool_calls):
            yield from self._folded(delta)
            return
        role, self._is_first = self._is_first, False
        found = self._logprobs_of(delta)
        if role or delta.text or found is not None:
            yield _event(self._chunk(delta.text, None, role=role, logprobs=found))

    def _logprobs_of(self, delta: TokenDelta) -> dict[str, Any] | None:
        if self._logprobs is None or delta.extra is None or delta.extra.logprob is None:
            return None
        return self._logprobs((delta,))

    def _folded(self, delta: TokenDelta) -> Iterator[bytes]:
        """The chunks of the pieces that a token completes."""
        if self._fold is None:
            # An upstream may send reasoning that nobody asked for. Everything before was content.
            self._fold = AnswerFold(self._request)
        if self._is_first:
            yield self._first(None)
        found = self._logprobs_of(delta)
        if found is not None:
            # A token may complete no piece, or several.
            yield _event(self._with_choice(self._form.delta_choice(self._index, {}, logprobs=found)))
        yield from map(self._piece, self._fold.feed(delta))

    def _piece(self, piece: Piece) -> bytes:
        if isinstance(piece, Content):
            return self._before + encode(piece.text) + self._after
        return _event(self._with_choice(self._form.delta_choice(self._index, message_delta(piece))))

    def _last(self, end: Terminal) -> bytes:
        error = error_of(end)
        if error is not None:
            return render_error(error)
        assert isinstance(end, Finished)  # noqa: S101 - every other end has an error
        chunks = [self._first("" if self._fold is None else None)] if self._is_first else []
        reason: str = end.reason
        if self._fold is not None:
            chunks += map(self._piece, self._fold.end())
            reason = self._fold.reason(end.reason)
        chunks.append(_event(self._chunk(None, reason)))
        if self.is_last:
            chunks.append(self.render_end(end.usage))
        return b"".join(chunks)

    def render_end(self, usage: Usage) -> bytes:
        """The events after the last choice."""
        if not self._with_usage:
            return DONE
        return _event({**self._head, "choices": [], "usage": usage_object(usage)}) + DONE

    def _chunk(
        self, text: str | None, reason: str | None, *, role: bool = False, logprobs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return self._with_choice(self._form.choice(self._index, text, reason, role=role, logprobs=logprobs))

    def _with_choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        return {**self._head, "choices": [choice], **({"usage": None} if self._with_usage else {})}


class AnswerForm:
    """The form of an answer: of chat completions, or of completions."""

    def __init__(self, *, chat: bool) -> None:
        self.is_chat = chat
        self.chunk_object = "chat.completion.chunk" if chat else "text_completion"
        self._object = "chat.completion" if chat else "text_completion"
        self._prefix = "chatcmpl-" if chat else "cmpl-"

    def answer_id(self, request_id: str) -> str:
        """The id of the answer, which contains the id of the request's stream."""
        return self._prefix + request_id.removeprefix("req_")

    def logprobs(self) -> LogprobsForm:
        """Renders the log probabilities of one choice. To be called with all parts of the log in their order."""
        return chat_logprobs if self.is_chat else CompletionLogprobs().feed

    def choice(
        self, index: int, text: str | None, reason: str | None, *, role: bool, logprobs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """A choice of a chunk."""
        if not self.is_chat:
            return {"index": index, "text": text or "", "logprobs": logprobs, "finish_reason": reason}
        delta: dict[str, Any] = {"role": "assistant"} if role else {}
        if text is not None or role:
            delta["content"] = text
        return self.delta_choice(index, delta, reason, logprobs)

    def delta_choice(
        self,
        index: int,
        delta: dict[str, Any],
        reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A choice of a chunk of a chat."""
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    def whole(self, answer_id: str, requests: Sequence[GenerateRequest], logs: Sequence[LogSlice]) -> dict[str, Any]:
        """A whole answer. Raises the error of the first choice that was not finished."""
        choices: list[dict[str, Any]] = []
        usages: list[Usage] = []
        for index, (request, log) in enumerate(zip(requests, logs, strict=True)):
            assert log.end is not None  # noqa: S101 - the end of each was waited for
            error = error_of(log.end)
            if error is not None:
                raise error
            assert isinstance(log.end, Finished)  # noqa: S101 - every other end has an error
            usages.append(log.end.usage)
            choices.append(self._whole_choice(index, request, log.deltas, log.end.reason))
        first = requests[0]
        model = answering_model(first, logs[0].deltas)
        head = {"id": answer_id, "object": self._object, "created": created_s(first), "model": model}
        return {**head, "choices": choices, "usage": usage_object(add_up(usages))}

    def _whole_choice(
        self, index: int, request: GenerateRequest, deltas: Sequence[TokenDelta], reason: FinishReason
    ) -> dict[str, Any]:
        logprobs = None if request.top_logprobs is None else self.logprobs()(deltas)
        if not self.is_chat:
            text = "".join(delta.text for delta in deltas)
            return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        fold = AnswerFold(request)
        pieces = [*fold.feed_all(deltas), *fold.end()]
        message = whole_message(pieces)
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": fold.reason(reason)}


def created_s(request: GenerateRequest) -> int:
    """The value of `created`, in seconds since 1970. Every gateway gives the same value for a request."""
    return (request.created_ms or 0) // 1000


def usage_object(usage: Usage) -> dict[str, Any]:
    """The numbers of tokens, in the form of OpenAI's API."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def add_up(usages: list[Usage]) -> Usage:
    """The usage of several choices. The prompt counts once for each choice, because each choice reads it."""
    return Usage(
        sum(usage.prompt_tokens for usage in usages),
        sum(usage.completion_tokens for usage in usages),
        sum(usage.cached_tokens for usage in usages),
    )


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
