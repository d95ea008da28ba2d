"""From the bytes of an upstream's stream to its chunks. Pure.

The format is that of OpenAI's `stream: true`: server-sent events whose data are JSON objects, then `data: [DONE]`.
https://platform.openai.com/docs/api-reference/chat-streaming
"""

import builtins
import operator
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import msgspec

from llmactors.http.sse_reader import BadEventStream, SseReader
from llmactors.messages import TokenLogprob, ToolCallDelta, TopLogprob

NO_TOKEN = -1
"""The id of every token from an upstream, which sends texts without ids. No model has a token with this id, so no other
backend can take it for one of its own; a takeover continues from the texts."""


class BadChunk(ValueError):
    """The bytes that came are not of this format."""


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """The content of one event. A msgspec struct, since one is made for each token."""

    text: str = ""
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: dict[str, Any] | None = None
    done: bool = False
    """The stream ends here, in order."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """How probable the tokens of the event were, where the request asks for probabilities."""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()


class _Probable(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[Annotated[int, msgspec.Meta(ge=0, le=255)]] | None = None

    @property
    def utf8(self) -> builtins.bytes:
        return self.token.encode("utf-8", "replace") if self.bytes is None else builtins.bytes(self.bytes)


class _Probability(_Probable):
    top_logprobs: list[_Probable] | None = None


class _Logprobs(msgspec.Struct):
    """The form of the chat route, and then that of the completions route."""

    content: list[_Probability] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: Annotated[int, msgspec.Meta(ge=0, lt=1024)] | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    """The newer name of `reasoning_content` in some servers."""
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _ChunkBody(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class ChunkReader:
    """The reader of one stream. Feed it bytes as they come, cut anywhere."""

    _decoder: ClassVar[msgspec.json.Decoder[_ChunkBody]] = msgspec.json.Decoder(_ChunkBody)

    def __init__(self) -> None:
        self._events = SseReader()
        self._done = False

    def __repr__(self) -> str:
        return f"<ChunkReader done={self._done}>"

    def feed(self, data: bytes) -> list[Chunk]:
        """Returns the chunks that `data` completes; none after `[DONE]`. Raises `BadChunk`."""
        if self._done:
            return []
        try:
            events = self._events.feed(data)
        except BadEventStream as error:
            raise BadChunk(str(error)) from error
        chunks: list[Chunk] = []
        for event in events:
            payload = event.data.strip()
            if payload == b"[DONE]":
                chunks.append(Chunk(done=True))
                self._done = True
                break
            if payload:
                chunks.append(_refusal(payload) if event.name == "error" else self._decode(payload))
        return chunks

    def _decode(self, payload: bytes) -> Chunk:
        try:
            body = self._decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadChunk(f"a chunk is no JSON object of OpenAI's form: {error}") from error
        if body.error:
            return Chunk(error=as_error(body.error))
        text, reasoning, finish, logprobs = "", "", None, None
        calls: list[ToolCallDelta] = []
        for choice in body.choices:
            if choice.index == 0:
                delta = choice.delta or _Delta()
                text += choice.text or delta.content or ""
                reasoning += delta.reasoning_content or delta.reasoning or ""
                calls += map(_call_delta, delta.tool_calls or ())
                finish = choice.finish_reason or finish
                logprobs = choice.logprobs or logprobs
        usage = body.usage
        return Chunk(
            text,
            finish,
            None if usage is None else usage.prompt_tokens,
            None if usage is None else usage.completion_tokens,
            logprobs=() if logprobs is None else tuple(_token_logprobs(logprobs)),
            reasoning=reasoning,
            tool_calls=tuple(calls),
        )


def _call_delta(call: _Call) -> ToolCallDelta:
    function = call.function or _Function()
    return ToolCallDelta(call.index or 0, call.id or "", function.name or "", function.arguments or "")


def _token_logprobs(found: _Logprobs) -> Iterator[TokenLogprob]:
    for one in found.content or ():
        yield TokenLogprob(
            one.utf8,
            one.logprob,
            tuple(TopLogprob(NO_TOKEN, each.utf8, each.logprob) for each in one.top_logprobs or ()),
        )
    tops = found.top_logprobs or ()
    for place, (token, logprob) in enumerate(zip(found.tokens or (), found.token_logprobs or (), strict=False)):
        top = tops[place] if place < len(tops) else None
        pairs = sorted((top or {}).items(), key=operator.itemgetter(1), reverse=True)
        if logprob is not None:
            yield TokenLogprob(
                token.encode("utf-8", "replace"),
                logprob,
                tuple(TopLogprob(NO_TOKEN, text.encode("utf-8", "replace"), each) for text, each in pairs),
            )


def _refusal(payload: bytes) -> Chunk:
    """An event that is named `error`: its data are the error, or an object that holds the error."""
    try:
        return Chunk(error=as_error(msgspec.json.decode(payload)))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadChunk(f"an error event holds no JSON: {error}") from error


def as_error(found: Any) -> dict[str, Any]:
    """The object behind `"error"`, of whichever shape; some servers send only a text."""
    inner = found.get("error", found) if isinstance(found, dict) else found
    return inner if isinstance(inner, dict) else {"message": str(inner)}


def error_of(body: bytes) -> dict[str, Any]:
    """The error object in the body of a refusal; empty where the body holds none."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return as_error(found) if isinstance(found, dict) else {}
