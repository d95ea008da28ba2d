"""The JSON of one event of an upstream's stream, or of a whole answer, in the forms that servers send. Pure.

The types say what is accepted. A field that is missing, null, or of no interest is never an error.
"""

import json
import re
from typing import Annotated, Any

import msgspec

MAX_BODY_BYTES = 1 << 20
_MANY_BYTES = 32_768
_MAX_PARTS = 40_000
"""How many JSON objects and arrays a body may hold: a greater number would hold the event loop for too long."""
_MAX_CHOICES = 128
_MAX_CONTENT_PARTS = 4096

TokenId = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
"""The id of a token, as servers send it."""
Number = int | float | str | None
"""A count of tokens. Some servers send `12.0` or `"12"`."""


class BadChunk(ValueError):
    """The bytes that came are not of this format."""


class ChunkFunction(msgspec.Struct):
    """The function of a tool call."""

    name: str | None = None
    arguments: str | dict[str, Any] | list[Any] | None = None
    """Text, or a part of a text. Some servers send the arguments as an object."""


class ChunkCall(msgspec.Struct):
    """A tool call, or a part of one."""

    index: Number = None
    id: str | None = None
    function: ChunkFunction | None = None


class ChunkDelta(msgspec.Struct):
    """What an event adds to the message, or the whole message."""

    content: str | list[Any] | None = None
    """A text, or a list of parts."""
    reasoning_content: str | None = None
    reasoning: Any = None
    """The newer name of `reasoning_content` in some servers."""
    refusal: str | None = None
    """Why the model does not answer, in place of the content."""
    tool_calls: list[ChunkCall] | None = None
    function_call: ChunkFunction | None = None
    """The older form of a tool call."""


class ChunkUsage(msgspec.Struct):
    """Counts of tokens."""

    prompt_tokens: Number = None
    completion_tokens: Number = None
    prompt_tokens_details: Any = None
    prompt_cache_hit_tokens: Number = None
    """DeepSeek's place of the number of cached tokens."""

    @property
    def cached_tokens(self) -> int:
        """How many tokens of the prompt came from the upstream's cache; 0 where the upstream does not say."""
        details = self.prompt_tokens_details
        found = details.get("cached_tokens") if isinstance(details, dict) else self.prompt_cache_hit_tokens
        return (as_count(found) or 0) if isinstance(found, int | float | str) else 0


class ChunkChoice(msgspec.Struct):
    """One choice."""

    index: Number = 0
    delta: ChunkDelta | None = None
    message: ChunkDelta | None = None
    """The whole message, in an answer that is no stream."""
    text: str | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = msgspec.Raw()
    """Read only where the request asks for probabilities: servers have many forms of them."""
    usage: ChunkUsage | None = None
    """Moonshot's place of the counts."""
    token_ids: msgspec.Raw = msgspec.Raw()
    """Read only where the request asks for ids."""
    prompt_token_ids: msgspec.Raw = msgspec.Raw()


class GroqExtra(msgspec.Struct):
    """The field `x_groq`."""

    usage: ChunkUsage | None = None
    error: Any = None


class ChunkBody(msgspec.Struct):
    """One event, or a whole answer."""

    choices: list[ChunkChoice | None] | None = None
    usage: ChunkUsage | None = None
    error: Any = None
    x_groq: GroqExtra | None = None
    object: Any = None
    """`error` in the errors of some servers, whose other fields are those of the error itself."""
    prompt_token_ids: msgspec.Raw = msgspec.Raw()
    """vLLM's chat route has these ids here, and its completions route in the choice."""

    @property
    def counts(self) -> ChunkUsage | None:
        """The counts of tokens, wherever they stand."""
        if self.usage is not None:
            return self.usage
        if self.x_groq is not None and self.x_groq.usage is not None:
            return self.x_groq.usage
        return next((choice.usage for choice in self.choices or () if choice and choice.usage), None)


_decode = msgspec.json.Decoder(ChunkBody | None).decode


def read_body(payload: bytes) -> ChunkBody | None:
    """The body; None for `null`. Raises `BadChunk`.

    The texts may have halves of surrogate pairs, and bytes that are not UTF-8 as PEP 383 writes them.
    """
    check_parts(payload)
    try:
        body: ChunkBody | None = _decode(payload)
    except msgspec.ValidationError as error:
        raise BadChunk(f"a chunk is no JSON object of OpenAI's form: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = _read_odd_text(payload)
    except RecursionError as error:
        raise BadChunk("a chunk nests too many JSON values") from error
    if body is not None and body.choices is not None and len(body.choices) > _MAX_CHOICES:
        raise BadChunk(f"a chunk has {len(body.choices)} choices; at most {_MAX_CHOICES} are read")
    return body


def check_parts(payload: bytes) -> None:
    """Raises `BadChunk` for JSON with so many objects that reading them would hold the event loop."""
    if len(payload) > MAX_BODY_BYTES:
        raise BadChunk(f"a chunk is longer than {MAX_BODY_BYTES} bytes")
    if len(payload) > _MANY_BYTES and payload.count(b"{") + payload.count(b"[") > _MAX_PARTS:
        raise BadChunk(f"a chunk holds more than {_MAX_PARTS} JSON values")


def _read_odd_text(payload: bytes) -> ChunkBody | None:
    """Reads JSON whose texts are cut in the middle of a character, which msgspec refuses."""
    try:
        found = json.loads(payload.decode("utf-8", "surrogateescape"))
        read: ChunkBody | None = msgspec.convert(found, ChunkBody | None)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise BadChunk(f"a chunk is no JSON object of OpenAI's form: {error}") from error
    return read


_decode_ids = msgspec.json.Decoder(tuple[TokenId, ...] | None).decode


def read_ids(raw: msgspec.Raw) -> tuple[int, ...]:
    """Ids of tokens; none where the field is missing or null. Raises `BadChunk`."""
    if not raw:
        return ()
    try:
        return _decode_ids(raw) or ()
    except msgspec.MsgspecError as error:
        raise BadChunk(f"the ids of a chunk's tokens are no ids: {error}") from error


def as_count(number: Number) -> int | None:
    """The number of tokens; None where the value is no such number."""
    try:
        count = int(float(number)) if isinstance(number, str) else int(number or 0)
    except (ValueError, OverflowError):
        return None
    return None if number is None or count < 0 else count


def text_and_reasoning(content: str | list[Any] | None) -> tuple[str, str]:
    """The text and the reasoning of a message's content. Raises `BadChunk`."""
    if content is None or isinstance(content, str):
        return content or "", ""
    if len(content) > _MAX_CONTENT_PARTS:
        raise BadChunk(f"a message has {len(content)} parts; at most {_MAX_CONTENT_PARTS} are read")
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            thought = next((part[name] for name in ("thinking", "reasoning") if name in part), None)
            if thought is not None:
                thoughts.append(_plain(thought))
            else:
                texts += [part[name] for name in ("text", "refusal") if isinstance(part.get(name), str)]
    return "".join(texts), "".join(thoughts)


def _plain(thought: Any) -> str:
    return "".join(text_and_reasoning(thought)) if isinstance(thought, str | list) else ""


_WORD = re.compile(r"[\W_]+")
_LENGTH = {"length", "maxtokens", "maxlength", "modellength", "maxoutputtokens", "maxcompletiontokens"}
_FILTERED = {"contentfilter", "contentfiltered", "safety", "recitation", "prohibitedcontent", "blocklist", "sensitive"}
_BROKEN = {
    "error",
    "abort",
    "aborted",
    "cancelled",
    "canceled",
    "networkerror",
    "insufficientsystemresource",
    "malformedfunctioncall",
    "timeout",
}
_NONE = {"", "null", "none"}


def read_finish(word: str | None) -> str | None:
    """`stop`, `length`, `content_filter`, or `error` where the upstream broke the answer off; None for no reason.

    OpenAI's `tool_calls`, and words that are not known here, such as `eos` or `end_turn`, are a `stop`.
    """
    if word is None:
        return None
    bare = _WORD.sub("", word).lower()
    if bare in _NONE:
        return None
    if bare in _LENGTH:
        return "length"
    if bare in _FILTERED:
        return "content_filter"
    return "error" if bare in _BROKEN else "stop"
