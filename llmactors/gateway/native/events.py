"""The events of a stream, as SSE bytes and as WebSocket JSON. Pure.

Every token of every stream passes here, so the parts that all events of a stream share are rendered once.

token   {"id","seq","text"}
done    {"id","seq","finish_reason","usage"}
error   {"id","seq","error":{"code","message"}}
queued  {"id","place","estimate_s"}, which is in no log and has no seq
"""

from collections.abc import Iterator
from typing import Any, Protocol, cast

import msgspec

from llmactors.errors import LlmactorsError
from llmactors.gateway.errors import error_fields
from llmactors.gateway.queue_places import QueueStanding
from llmactors.http.line_safe_json import encode, escape_separators
from llmactors.ledger import LogSlice
from llmactors.messages import Finished, Terminal, Usage

KEEP_ALIVE = b": keep-alive\n\n"
RETRY = b"retry: 1000\n\n"
"""Tells a browser's EventSource to follow a cut stream again after a second."""
EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "One event. `data` is JSON; `id` is the number from which a client can follow the stream.",
    "properties": {
        "event": {"enum": ["token", "done", "error", "queued"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "id": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "required": ["event", "data"],
}
"""One SSE event, for the OpenAPI document."""


class Renderer(Protocol):
    """Renders one stream for one API family."""

    @property
    def keep_alive(self) -> bytes:
        """The bytes that are written after a long silence; empty where nothing may be written."""
        ...

    def render(self, part: LogSlice) -> bytes:
        """All events of a slice of the log, as one chunk of the body."""
        ...


class NotedRenderer(Renderer, Protocol):
    """A renderer of which a later gateway may need to know something."""

    @property
    def note(self) -> dict[str, Any] | None:
        """The fields of `StreamNote` by which another renderer goes on behind what was rendered; None if it cannot."""
        ...


class RendererWithLongEnds(Renderer, Protocol):
    """A renderer whose last events show the whole answer again."""

    def render_apart(self, part: LogSlice) -> Iterator[bytes]:
        """As `render`, as several chunks of the body. Other tasks may run between two of them."""
        ...


class RendererWithStandings(Renderer, Protocol):
    """A renderer with an event that tells a waiting client its place in the queue."""

    def render_standing(self, standing: QueueStanding) -> bytes:
        """The event. A client can resume after it as before it, because the event is in no log."""
        ...


# `isinstance` would compare each member of a Protocol, which takes 3 % of what a request costs.


def with_long_ends(renderer: Renderer) -> RendererWithLongEnds | None:
    """The renderer, if its last events show the whole answer again."""
    return cast("RendererWithLongEnds", renderer) if hasattr(renderer, "render_apart") else None


def with_standings(renderer: Renderer) -> RendererWithStandings | None:
    """The renderer, if it has an event for a place in the queue."""
    return cast("RendererWithStandings", renderer) if hasattr(renderer, "render_standing") else None


class SseRenderer:
    """Renders the SSE events of one native stream, of which the client has some already if it `has_begun`."""

    keep_alive = KEEP_ALIVE

    def __init__(self, request_id: str, *, has_begun: bool = False) -> None:
        self._id = request_id
        self._retry = b"" if has_begun else RETRY
        self._token_head = b'\nevent: token\ndata: {"id":"%b","seq":' % request_id.encode()

    def render(self, part: LogSlice) -> bytes:
        """All events of a slice of the log, as one chunk of the body."""
        seq, deltas = part.first_seq, part.deltas
        head, to_json = self._token_head, msgspec.json.encode
        if len(deltas) == 1 and part.end is None and not self._retry:  # most writes of a paced stream
            event = b'id: %d%b%d,"text":%b}\n\n' % (seq, head, seq, to_json(deltas[0].text))
            return event if event.isascii() else escape_separators(event)
        pieces: list[bytes] = []
        for delta in deltas:
            number = b"%d" % seq
            pieces += (b"id: ", number, head, number, b',"text":', to_json(delta.text), b"}\n\n")
            seq += 1
        if part.end is not None:
            name, payload = terminal_event(self._id, part.end_seq, part.end)
            pieces.append(b"id: %d\nevent: %b\ndata: %b\n\n" % (seq, name.encode(), encode(payload)))
        if self._retry and pieces:
            pieces.insert(0, self._retry)
            self._retry = b""
        return escape_separators(b"".join(pieces))

    def render_standing(self, standing: QueueStanding) -> bytes:
        """A `queued` event, without an id: `Last-Event-ID` stays the last token's."""
        return b"event: queued\ndata: %b\n\n" % encode(_standing_fields(self._id, standing))


def render_cut(request_id: str, error: LlmactorsError) -> bytes:
    """An `error` event of this connection alone. The event is in no log and has no id, because the client can follow
    the stream again.
    """
    payload = {"id": request_id, "error": error_fields(error)}
    return b"event: error\ndata: %b\n\n" % encode(payload)


class JsonRenderer:
    """Renders the events of one stream as the texts of WebSocket messages."""

    def __init__(self, request_id: str) -> None:
        self._id = request_id

    def render(self, part: LogSlice) -> list[str]:
        """One text for each event of a slice of the log."""
        seq = part.first_seq
        texts: list[str] = []
        for delta in part.deltas:
            payload = {"event": "token", "id": self._id, "seq": seq, "text": delta.text}
            texts.append(encode(payload).decode())
            seq += 1
        if part.end is not None:
            name, payload = terminal_event(self._id, part.end_seq, part.end)
            texts.append(encode({"event": name, **payload}).decode())
        return texts

    def render_standing(self, standing: QueueStanding) -> str:
        """A `queued` event, which has no `seq`."""
        return encode({"event": "queued", **_standing_fields(self._id, standing)}).decode()


def _standing_fields(request_id: str, standing: QueueStanding) -> dict[str, Any]:
    return {"id": request_id, "place": standing.place, "estimate_s": standing.estimate_s}


def terminal_event(request_id: str, seq: int, end: Terminal) -> tuple[str, dict[str, Any]]:
    """The name and the payload of the last event of a stream."""
    if isinstance(end, Finished):
        payload: dict[str, Any] = {
            "id": request_id,
            "seq": seq,
            "finish_reason": end.reason,
            "usage": usage_object(end.usage),
        }
        return "done", payload
    return "error", {"id": request_id, "seq": seq, "error": error_fields(end)}


def usage_object(usage: Usage) -> dict[str, int]:
    """The numbers of tokens. `cached_tokens` of the prompt's tokens came from a cache."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "cached_tokens": usage.cached_tokens,
    }
