"""The events of a stream of Anthropic's API. Pure.

Every token of every stream passes here, so the parts that all deltas of a block share are rendered once. The events
follow from the request and its log alone, so they are the same at every gateway, and before and after any crash.

Source: https://docs.claude.com/en/api/messages-streaming.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from llmactors.errors import LlmactorsError
from llmactors.gateway.anthropic.blocks import message_head, text_block, thinking_block, tool_use_block, usage_object
from llmactors.gateway.anthropic.errors import ANTHROPIC_ERRORS
from llmactors.gateway.anthropic.stop_reason import stop_reason, stop_string_in
from llmactors.gateway.openai.render import error_of
from llmactors.http.line_safe_json import escape_separators
from llmactors.ledger import LogSlice
from llmactors.messages import Finished, GenerateRequest, Terminal, TokenDelta, Usage
from llmactors.tool_calls.fold import AnswerFold, needs_fold
from llmactors.tool_calls.pieces import CallArguments, CallBegun, Content, Piece, Reasoning

_encode = msgspec.json.encode
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "One event. `data` is JSON with the event's name as its `type`.",
    "properties": {"event": {"type": "string"}, "data": {"type": "string", "contentMediaType": "application/json"}},
    "required": ["event", "data"],
}


class MessageRenderer:
    """Renders the events of one answer.

    Args:
        request: The request of the answer.
        shows_thinking: Whether the client gets the model's reasoning.
    """

    keep_alive = PING

    def __init__(self, request: GenerateRequest, *, shows_thinking: bool) -> None:
        self._request = request
        self._shows_thinking = shows_thinking
        self._fold = AnswerFold(request)
        self._is_plain = not needs_fold(request)
        self._begun = False
        self._open: str | None = None
        """The type of the block that the next piece may extend."""
        self._block = -1
        """The number of the newest block."""
        self._of_call: dict[int, int] = {}
        """The number of the block of each call."""
        self._before = b""
        """The beginning of a delta of the newest block."""
        self._stop = ""

    def __repr__(self) -> str:
        return f"<MessageRenderer of {self._request.id} at block {self._block}>"

    @property
    def note(self) -> dict[str, Any] | None:
        """What `StreamNote` says of this renderer; None for a renderer to which each token matters."""
        if not self._is_plain:
            return None
        return {"max_tokens": self._request.max_tokens, "shows_thinking": self._shows_thinking}

    def render(self, part: LogSlice) -> bytes:
        """All events of a slice of the log, as one write."""
        events: list[bytes] = []
        if not self._begun:
            self._begun = True
            events.append(self._start(part.deltas))
        for delta in part.deltas:
            if self._is_plain and self._open == "text" and delta.extra is None:
                if delta.text:
                    events += (self._before, _encode(delta.text), b"}}\n\n")
            else:
                events += self._render_pieces(self._fold.feed(delta))
                self._stop = self._stop or stop_string_in((delta,))
        if part.end is not None:
            events += self._ending(part.end)
        return escape_separators(b"".join(events))

    def _start(self, deltas: Sequence[TokenDelta]) -> bytes:
        message = {
            **message_head(self._request, deltas),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_object(Usage(0, 0)),  # the log tells the numbers at its end
        }
        return _event("message_start", message=message)

    def _render_pieces(self, pieces: Iterable[Piece]) -> Iterator[bytes]:
        for piece in pieces:
            match piece:
                case Content(text):
                    yield from self._text("text", text_block(""), "text_delta", text)
                case Reasoning(text):
                    if self._shows_thinking:
                        yield from self._text("thinking", thinking_block(""), "thinking_delta", text)
                case CallBegun(index):
                    yield from self._begin("tool_use", tool_use_block(piece))
                    self._of_call[index] = self._block
                case CallArguments(index, text):
                    delta = {"type": "input_json_delta", "partial_json": text}
                    yield _event("content_block_delta", index=self._of_call[index], delta=delta)

    def _text(self, kind: str, block: dict[str, Any], delta: str, text: str) -> Iterator[bytes]:
        if not text:
            return
        if self._open != kind:
            yield from self._begin(kind, block)
            whole = _event("content_block_delta", index=self._block, delta={"type": delta, kind: "\0"})
            self._before = whole.partition(rb'"\u0000"')[0]
        yield b"%b%b}}\n\n" % (self._before, _encode(text))

    def _begin(self, kind: str, block: dict[str, Any]) -> Iterator[bytes]:
        yield from self._close()
        self._open = kind
        self._block += 1
        yield _event("content_block_start", index=self._block, content_block=block)

    def _close(self) -> Iterator[bytes]:
        if self._open is not None:
            self._open = None
            yield _event("content_block_stop", index=self._block)

    def _ending(self, end: Terminal) -> Iterator[bytes]:
        error = error_of(end)
        if error is not None:
            yield render_error(error, self._request.id)
            return
        assert isinstance(end, Finished)  # noqa: S101 - every other end has an error
        yield from self._render_pieces(self._fold.end())
        yield from self._close()
        reason = stop_reason(self._request, end, stop=self._stop, calls=self._fold.calls)
        delta = {"stop_reason": reason, "stop_sequence": self._stop or None}
        yield _event("message_delta", delta=delta, usage=usage_object(end.usage))
        yield _event("message_stop")


def render_error(error: LlmactorsError, request_id: str) -> bytes:
    """The last event of a stream whose answer cannot be finished."""
    return b"event: error\ndata: %b\n\n" % escape_separators(_encode(ANTHROPIC_ERRORS.body(error, request_id)))


def _event(name: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode({"type": name, **fields}))
