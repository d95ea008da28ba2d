"""From the bytes of a stream to what its chunks say. Pure.

The format is that of OpenAI's `stream: true`: server-sent events whose data are JSON objects, then `data: [DONE]`.
https://platform.openai.com/docs/api-reference/chat-streaming
"""

from typing import Any, ClassVar

import attrs
import msgspec

MAX_LINE_BYTES = 1 << 20


class BadChunk(ValueError):
    """What came is not of this format."""


@attrs.frozen
class Chunk:
    """What one event says."""

    text: str = ""
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: dict[str, Any] | None = None
    done: bool = False
    """The stream ends here, as it should."""


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class ChunkReader:
    """One stream. Feed it bytes as they come, cut anywhere."""

    _decoder: ClassVar[msgspec.json.Decoder[_Event]] = msgspec.json.Decoder(_Event)

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._done = False

    def __repr__(self) -> str:
        return f"<ChunkReader {len(self._rest)} bytes of a line>"

    def feed(self, data: bytes) -> list[Chunk]:
        """The chunks that are whole now. Comments, ids and names of events are skipped. Raises `BadChunk`."""
        if self._done:  # nothing that follows means anything
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise BadChunk("a line is too long")
        chunks: list[Chunk] = []
        for line in (line.removesuffix(b"\r") for line in lines):
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif line.startswith(b"error:"):  # llama.cpp once said so
                self._data.append(b'{"error":' + line[6:].strip() + b"}")
            elif not line and self._data:
                payload, self._data = b"\n".join(self._data), []
                if payload:
                    chunks.append(self._decode(payload))
                if chunks and chunks[-1].done:
                    self._done = True
                    return chunks
        return chunks

    def _decode(self, payload: bytes) -> Chunk:
        if payload == b"[DONE]":
            return Chunk(done=True)
        try:
            event = self._decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadChunk("a chunk is no such JSON") from error
        if event.error:
            return Chunk(error=as_error(event.error))
        text, finish = "", None
        for choice in event.choices:
            if choice.index == 0:
                text += choice.text or (choice.delta.content if choice.delta else None) or ""
                finish = choice.finish_reason or finish
        if event.usage is None:
            return Chunk(text, finish)
        return Chunk(text, finish, event.usage.prompt_tokens, event.usage.completion_tokens)


def as_error(found: Any) -> dict[str, Any]:
    """The object behind `"error"`, of whichever shape; some servers send only a text."""
    inner = found.get("error", found) if isinstance(found, dict) else found
    return inner if isinstance(inner, dict) else {"message": str(inner)}


def error_of(body: bytes) -> dict[str, Any]:
    """The error object in the body of a refusal; empty where there is none."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return as_error(found) if isinstance(found, dict) else {}
