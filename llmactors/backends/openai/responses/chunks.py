"""From the bytes of an upstream's answer to its chunks. Pure.

The format is that of OpenAI's `stream: true`: server-sent events whose data are JSON objects, then `data: [DONE]`.
https://platform.openai.com/docs/api-reference/chat-streaming
A server that answers with one JSON object in place of a stream is read too: the whole answer is one chunk then.
"""

from typing import Any

import msgspec

from llmactors.backends.openai.responses.call_places import CallPlaces, TooManyCalls
from llmactors.backends.openai.responses.chunk_body import (
    MAX_BODY_BYTES,
    BadChunk,
    ChunkBody,
    ChunkCall,
    ChunkDelta,
    ChunkFunction,
    as_count,
    read_body,
    read_finish,
    read_ids,
    text_and_reasoning,
)
from llmactors.backends.openai.responses.chunk_template import ChunkTemplate
from llmactors.backends.openai.responses.logprobs import NO_TOKEN, read_logprobs
from llmactors.backends.openai.responses.split_characters import SplitCharacters
from llmactors.http.sse_reader import BadEventStream, SseEvent, SseReader
from llmactors.messages import TokenLogprob, ToolCallDelta

__all__ = ["NO_TOKEN", "BadChunk", "Chunk", "ChunkReader", "as_error", "error_of"]

_BOM = b"\xef\xbb\xbf"
_MAX_BLANKS_BYTES = 65_536
_MAX_TEMPLATES = 8
"""How many templates are learned of one stream without use: in some streams all chunks differ in more than the text."""
_GOOD_TEMPLATE_USES = 16
_MOST_SINGLES = 64


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """The content of one event. A msgspec struct, since one is made for each token."""

    text: str = ""
    finish: str | None = None
    """A word of `chunk_body.read_finish`."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    error: dict[str, Any] | None = None
    done: bool = False
    """The stream ends here, in order."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """How probable the tokens of the event were, where the request asks for probabilities."""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    ids: tuple[int, ...] = ()
    """The ids of the tokens that the event adds, where the request asks for ids."""
    prompt_ids: tuple[int, ...] = ()
    """The ids of the prompt, in the first event, where the request asks for ids."""

    @property
    def is_plain(self) -> bool:
        """Whether the chunk says nothing but a text."""
        return bool(self.text) and self == Chunk(self.text)


class ChunkReader:
    """The reader of one answer. Feed it bytes as they come, cut anywhere, and then `feed_eof`.

    The chunks before a fault are returned first, and the next call raises `BadChunk`.

    Args:
        with_logprobs: Whether the request asks for log probabilities; otherwise they are passed over.
        with_ids: Whether the request asks for the ids of tokens; otherwise they are passed over.
    """

    def __init__(self, *, with_logprobs: bool = False, with_ids: bool = False) -> None:
        self._with_logprobs = with_logprobs
        self._with_ids = with_ids
        self._events = SseReader(MAX_BODY_BYTES)
        self._beginning: bytes | None = b""
        """The bytes before the first that tells a stream from one JSON object; None behind that byte."""
        self._whole: list[bytes] | None = None
        """The pieces of one JSON object; None for a stream."""
        self._whole_bytes = 0
        self._template: ChunkTemplate | None = None
        self._templates_left = _MAX_TEMPLATES
        self._template_uses = 0
        """How many chunks the template has read."""
        self._end_of_events = b"\n\n"
        self._singles_left = _MOST_SINGLES
        """How many events may be read one by one until a template fits again."""
        self._calls = CallPlaces()
        self._text = SplitCharacters()
        self._reasoning = SplitCharacters()
        self._arguments: dict[int, SplitCharacters] = {}
        self.fault: BadChunk | None = None
        """What the next call of `feed` or `feed_eof` raises."""
        self._done = False

    def __repr__(self) -> str:
        return f"<ChunkReader done={self._done}>"

    @property
    def _is_over(self) -> bool:
        return self._done or self.fault is not None

    def feed(self, data: bytes) -> list[Chunk]:
        """Returns the chunks that `data` completes; none after `[DONE]`. Raises `BadChunk`."""
        if self.fault is not None:
            raise self.fault
        if self._done:
            return []
        if self._beginning is not None:
            data = self._begin(data)
        if self._whole is not None:
            self._keep(data)
            return []
        chunks: list[Chunk] = []
        at = 0
        while at < len(data) and not self._is_over:
            texts, at = self._read_plain(data, at)
            chunks += map(Chunk, texts)
            end = self._end_of_event(data, at)
            try:
                chunks += self._feed(data[at:end])
            except BadChunk as error:
                if not chunks:
                    raise
                self.fault = error
            at = end
        return chunks

    def _read_plain(self, data: bytes, at: int) -> tuple[list[str], int]:
        """The texts of the events from `at` on that have the form of the template, and where those events end."""
        if self._template is None or self._events.in_event or self._text.holds_part:
            return [], at
        texts, end = self._template.read(data, at)
        if texts:
            self._template_uses += len(texts)
            self._singles_left = _MOST_SINGLES
        return texts, end

    def _end_of_event(self, data: bytes, at: int) -> int:
        """Where the reader of all forms stops, and the template may read again."""
        if not self._singles_left:
            return len(data)
        self._singles_left -= 1
        end = data.find(self._end_of_events, at)
        return len(data) if end < 0 else end + len(self._end_of_events)

    def _feed(self, data: bytes) -> list[Chunk]:
        """Reads chunks of any form."""
        if not data:
            return []
        try:
            events = self._events.feed(data)
        except BadEventStream as error:
            raise BadChunk(str(error)) from error
        chunks = self._read(events)
        if self._templates_left and chunks and self.fault is None and chunks[-1].is_plain:
            if self._template_uses < _GOOD_TEMPLATE_USES:
                self._templates_left -= 1
            self._template_uses = 0
            self._template = ChunkTemplate.learn(data, chunks[-1].text, read=self._decode, plain=Chunk)
        return chunks

    def feed_eof(self) -> list[Chunk]:
        """Takes the orderly end of the body, and returns the last chunks. Raises `BadChunk`.

        A last event without the empty line behind it counts where it is whole.
        """
        if self.fault is not None:
            raise self.fault
        if self._done:
            return []
        if self._whole is not None:
            self._done = True
            chunk = self._decode(b"".join(self._whole))
            found = [] if chunk is None else [chunk]
            return found + ([Chunk(done=True)] if chunk is not None and chunk.finish is not None else [])
        try:
            found = self._read(self._events.finish())
        except (BadChunk, BadEventStream):
            found = []  # the last event is cut
        self._done = True
        left = self._text.flush(), self._reasoning.flush()
        return found + ([Chunk(left[0], reasoning=left[1])] if any(left) else [])

    def _begin(self, data: bytes) -> bytes:
        """Finds out whether the body is one JSON object. Returns the bytes that nobody has read yet."""
        held = (self._beginning or b"") + data
        first = held.removeprefix(_BOM).lstrip()[:1]
        if not first or _BOM.startswith(held):
            if len(held) > _MAX_BLANKS_BYTES:
                raise BadChunk("the answer begins with too many empty lines")
            self._beginning = held
            return b""
        self._beginning = None
        if b"\r\n" in held:
            self._end_of_events = b"\r\n\r\n"
        if first in {b"{", b"["}:
            self._whole = []
            return held.removeprefix(_BOM)
        return held

    def _keep(self, data: bytes) -> None:
        assert self._whole is not None  # noqa: S101 - the caller has looked
        self._whole_bytes += len(data)
        if self._whole_bytes > MAX_BODY_BYTES:
            raise BadChunk(f"the answer is no stream, and longer than {MAX_BODY_BYTES} bytes")
        if data:
            self._whole.append(data)

    def _read(self, events: list[SseEvent]) -> list[Chunk]:
        chunks: list[Chunk] = []
        for event in events:
            payload = event.data.strip()
            if not payload:
                continue
            if payload == b"[DONE]":
                left = self._text.flush(), self._reasoning.flush()
                chunks.append(Chunk(left[0], done=True, reasoning=left[1]))
                self._done = True
                break
            try:
                chunk = _refusal(payload) if event.name == "error" else self._decode(payload)
            except BadChunk as error:
                self.fault = error
                if chunks:
                    break
                raise
            if chunk is not None:
                chunks.append(chunk)
        return chunks

    def _decode(self, payload: bytes) -> Chunk | None:
        body = read_body(payload)
        if body is None:
            return None
        error = body.error or (body.x_groq.error if body.x_groq is not None else None)
        if error:
            return Chunk(error=as_error(error))
        if body.object == "error":
            return _refusal(payload)
        return self._chunk(body)

    def _chunk(self, body: ChunkBody) -> Chunk | None:
        """The chunk of a body; None where the body has neither a choice nor counts, and so says nothing."""
        if not body.choices and body.counts is None:
            return None
        text, reasoning, word = "", "", None
        calls: list[ToolCallDelta] = []
        logprobs: tuple[TokenLogprob, ...] = ()
        ids: tuple[int, ...] = ()
        prompt_ids = read_ids(body.prompt_token_ids) if self._with_ids else ()
        for choice in body.choices or ():
            if choice is None or as_count(choice.index) not in {0, None}:
                continue
            delta = choice.delta or choice.message
            if delta is not None:
                said, thought = text_and_reasoning(delta.content)
                text += said + (delta.refusal or "")
                plain = delta.reasoning if isinstance(delta.reasoning, str) else ""
                reasoning += delta.reasoning_content or plain or thought
                if delta.tool_calls or delta.function_call:
                    calls += self._parts_of_calls(delta)
            if choice.text and not text:
                text = choice.text
            word = choice.finish_reason or word
            if self._with_logprobs and choice.logprobs:
                logprobs += read_logprobs(choice.logprobs)
            if self._with_ids:
                ids += read_ids(choice.token_ids)
                prompt_ids = prompt_ids or read_ids(choice.prompt_token_ids)
        finish = read_finish(word)
        if finish == "error":
            return Chunk(error={"message": f"the upstream broke the answer off, with the finish reason {word!r}"})
        counts = body.counts
        return Chunk(
            self._text.feed(text),
            finish,
            None if counts is None else as_count(counts.prompt_tokens),
            None if counts is None else as_count(counts.completion_tokens),
            0 if counts is None else counts.cached_tokens,
            logprobs=logprobs,
            reasoning=self._reasoning.feed(reasoning),
            tool_calls=tuple(calls),
            ids=ids,
            prompt_ids=prompt_ids,
        )

    def _parts_of_calls(self, delta: ChunkDelta) -> list[ToolCallDelta]:
        parts = [(as_count(call.index), call) for call in delta.tool_calls or ()]
        if delta.function_call is not None and not parts:
            parts.append((0, ChunkCall(function=delta.function_call)))
        found: list[ToolCallDelta] = []
        for index, call in parts:
            function = call.function or ChunkFunction()
            try:
                place, call_id, name = self._calls.place(index, call.id or "", function.name or "")
            except TooManyCalls as error:
                raise BadChunk(str(error)) from error
            arguments = function.arguments
            if arguments is not None and not isinstance(arguments, str):
                arguments = msgspec.json.encode(arguments).decode()
            if arguments:
                arguments = self._arguments.setdefault(place, SplitCharacters()).feed(arguments)
            found.append(ToolCallDelta(place, call_id, name, arguments or ""))
        return found


def _refusal(payload: bytes) -> Chunk:
    """An event that is an error: its data are the error, or an object that holds the error."""
    try:
        return Chunk(error=as_error(msgspec.json.decode(payload)))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Chunk(error={"message": payload[:300].decode(errors="replace")})


def as_error(found: Any) -> dict[str, Any]:
    """The object behind `"error"`, of whichever shape; some servers send only a text."""
    inner = found.get("error", found) if isinstance(found, dict) else found
    return inner if isinstance(inner, dict) else {"message": str(inner)}


def error_of(body: bytes) -> dict[str, Any]:
    """The error object in the body of a refusal; empty where the body holds none."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    if isinstance(found, list):  # Gemini's OpenAI route sends a list of one error
        found = found[0] if found else None
    return as_error(found) if isinstance(found, dict) else {}
