"""SGLang: https://docs.sglang.io/basic_usage/native_api.html and https://docs.sglang.io/basic_usage/sampling_params.html.

The chat route refuses to stream ids. So the ids of a chat are asked for at `/v1/tokenize`, and `/generate` makes the
answer. Its events hold all ids and all text so far; a server with `--incremental-streaming-output` sends only what is
new. A grammar goes in `ebnf`, which XGrammar follows.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from llmactors.backends.openai.engines.engine import Body, Calls, Reader, Tokens, decode
from llmactors.backends.openai.engines.rest import rest_of_grammar
from llmactors.backends.openai.requests.body import chat_of, is_raw, sampling_of
from llmactors.backends.openai.responses.chunk_body import TokenId
from llmactors.backends.openai.responses.chunks import BadChunk, Chunk, as_error
from llmactors.http.sse_reader import SseReader
from llmactors.messages import Constraint, GenerateRequest, TokenLogprob, TopLogprob

_NAMES = {"seed": "sampling_seed", "min_tokens": "min_new_tokens"}
"""The names in the sampling parameters of `/generate`, where they differ from those of the routes of OpenAI's API."""
_MAX_EVENT_BYTES = 16 << 20
"""An event holds the whole answer so far, with its log probabilities."""

_Logprob = tuple[float | None, TokenId, str | None]
"""The logarithm of the probability, the id and the text of a token."""


class _ServerInfo(msgspec.Struct):
    reasoning_parser: str | None = None


class _Meta(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    finish_reason: dict[str, Any] | None = None
    output_token_logprobs: list[_Logprob] | None = None
    output_top_logprobs: list[list[_Logprob] | None] | None = None


class _Event(msgspec.Struct):
    text: str | None = None
    output_ids: list[TokenId] = []
    meta_info: _Meta = msgspec.field(default_factory=_Meta)
    error: Any = None


class _Text(msgspec.Struct):
    text: str


class SgLang:
    """A `TokenServer`."""

    sends_ids = False

    async def splits_reasoning(self, calls: Calls) -> bool:
        """Whether the server was started with a parser of reasoning. Raises `UpstreamFault`."""
        return bool(decode(await calls.fetch("/get_server_info", None), _ServerInfo).reasoning_parser)

    async def tokenize(self, calls: Calls, model: str, text: str) -> tuple[int, ...]:
        """The ids of a text. Raises `UpstreamFault`."""
        body = {"model": model, "prompt": text, "add_special_tokens": False}
        return decode(await calls.fetch("tokenize", body), Tokens).tokens

    async def text_of(self, calls: Calls, model: str, ids: Sequence[int]) -> str:
        """The text of ids. Raises `UpstreamFault`."""
        return decode(await calls.fetch("detokenize", {"model": model, "tokens": ids}), _Text).text

    async def prompt_ids(self, calls: Calls, model: str, request: GenerateRequest) -> tuple[int, ...]:
        """The ids of the prompt of a request. Raises `UpstreamFault`, also where the release knows no chats here."""
        if request.prompt_ids:
            return request.prompt_ids
        if is_raw(request):
            body: Body = {"model": model, "prompt": request.prompt, "add_special_tokens": True}
        else:
            body = {"model": model, **chat_of(request)}
            if request.reasoning_effort:
                body["reasoning_effort"] = request.reasoning_effort
        return decode(await calls.fetch("tokenize", body), Tokens).tokens

    def generation(
        self,
        request: GenerateRequest,
        model: str,  # noqa: ARG002 - a server of SGLang has one model
        ids: Sequence[int],
        count: int,
        rest: Body,
    ) -> tuple[str, Body]:
        """The route and the body that go on behind ids."""
        sampling = {_NAMES.get(name, name): value for name, value in sampling_of(request, count, "sglang").items()}
        sampling |= {"max_new_tokens": request.max_tokens - count, **rest}
        body: Body = {"input_ids": ids, "sampling_params": sampling, "stream": True}
        if request.top_logprobs is not None:
            body |= {"return_logprob": True, "top_logprobs_num": request.top_logprobs, "return_text_in_logprobs": True}
        return "/generate", body

    def overshot(self, said: str) -> bool:  # noqa: ARG002
        """Whether the server gave an answer up at its trigger."""
        return False

    def reader(self) -> Reader:
        """The reader of one stream."""
        return GenerateReader()

    def constraint(self, constraint: Constraint, text: str, *, begins_now: bool) -> tuple[Body, bool]:  # noqa: ARG002 - no grammar has a trigger here
        """The fields of what is left of a constraint. Raises `Interrupted`."""
        grammar, is_complete = rest_of_grammar(constraint, text)
        return ({"ebnf": grammar} if grammar else {}), is_complete


class GenerateReader:
    """The reader of one stream of `/generate`."""

    def __init__(self) -> None:
        self._events = SseReader(max_event_bytes=_MAX_EVENT_BYTES)
        self._ids = 0
        """How many ids came."""
        self._chars = 0
        """How many characters came."""
        self._done = False
        self.fault: BadChunk | None = None

    def __repr__(self) -> str:
        return f"<GenerateReader after {self._ids} ids, done={self._done}>"

    def feed(self, data: bytes) -> list[Chunk]:
        """Returns the chunks that `data` completes; none after `[DONE]`. Raises `BadChunk`."""
        chunks: list[Chunk] = []
        try:
            for event in self._events.feed(data):
                if self._done:
                    break
                payload = event.data.strip()
                self._done = payload == b"[DONE]"
                if payload:
                    chunks.append(Chunk(done=True) if self._done else self._chunk(payload))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise BadChunk(f"an event is not of the form of SGLang's: {error}") from error
        return chunks

    def feed_eof(self) -> list[Chunk]:
        """The end of the body brings no chunk."""
        return []

    def _chunk(self, payload: bytes) -> Chunk:
        event = msgspec.json.decode(payload, type=_Event)
        meta = event.meta_info
        reason = meta.finish_reason or {}
        kind = reason.get("type")
        if event.error or kind == "abort":
            said = event.error or {"message": reason.get("message"), "code": reason.get("status_code")}
            return Chunk(error=as_error(said))
        # An event that holds everything so far has as many ids as the answer has tokens.
        is_whole = len(event.output_ids) >= meta.completion_tokens
        first, begun = (self._ids, self._chars) if is_whole else (0, 0)
        ids, text = tuple(event.output_ids[first:]), (event.text or "")[begun:]
        self._ids += len(ids)
        self._chars += len(text)
        return Chunk(
            text,
            None if kind is None else str(kind),
            meta.prompt_tokens,
            meta.completion_tokens,
            meta.cached_tokens,
            ids=ids,
            logprobs=_logprobs(meta, len(ids)),
        )


def _logprobs(meta: _Meta, count: int) -> tuple[TokenLogprob, ...]:
    """The log probabilities of the last `count` tokens."""
    found = (meta.output_token_logprobs or [])[-count:] if count else []
    tops = (meta.output_top_logprobs or [])[-count:] if count else []
    tops += [None] * (len(found) - len(tops))
    return tuple(
        TokenLogprob(
            _utf8(text),
            logprob or 0.0,
            tuple(TopLogprob(other, _utf8(name), value or 0.0) for value, other, name in top or ()),
        )
        for (logprob, _, text), top in zip(found, tops, strict=False)
    )


def _utf8(text: str | None) -> bytes:
    return (text or "").encode("utf-8", "replace")
