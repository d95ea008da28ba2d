"""The routes of our own: generate, follow, cancel."""

from llmactors.errors import (
    BackendFailed,
    Conflict,
    ContextExceeded,
    DeadlineExceeded,
    Expired,
    Forbidden,
    InternalError,
    Interrupted,
    InvalidRequest,
    LlmactorsError,
    NotFound,
    Overloaded,
    Poisoned,
    RateLimited,
    RequestTimeout,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from llmactors.gateway.native.schema import GenerateBody
from llmactors.gateway.openapi.answers import Cancelled, Error, Generated, Ticket
from llmactors.gateway.openapi.operation import Answer, Operation, Schema, header, path_id, query

ADMISSION: tuple[type[LlmactorsError], ...] = (
    InvalidRequest,
    ContextExceeded,
    Unauthenticated,
    NotFound,
    RequestTimeout,
    Conflict,
    Expired,
    TooLarge,
    RateLimited,
    Overloaded,
    InternalError,
    Poisoned,
    BackendFailed,
    Interrupted,
    Unavailable,
    DeadlineExceeded,
)
"""What a request for an answer can come to, before the answer has begun."""
DEADLINE = header(
    "X-Request-Deadline",
    "When the answer is no longer wanted, in milliseconds since 1970.",
    {"type": "integer", "minimum": 0, "maximum": 10**15 - 1},
)
IDEMPOTENCY_KEY = header(
    "Idempotency-Key",
    "The same key and body again are the same request.",
    {"type": "string", "maxLength": 255},
)
KEYED: tuple[type[LlmactorsError], ...] = (Unauthenticated, RateLimited, InternalError, Unavailable)
"""What any route that asks for a key can come to: who tried too many wrong ones must wait, and keys may be in Redis."""
READING = (*KEYED, InvalidRequest, NotFound)
_EVENT: Schema = {
    "type": "object",
    "description": "One event. `data` is JSON; `id` is the event's place in the stream, to follow it on from.",
    "properties": {
        "event": {"enum": ["token", "done", "error"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "id": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "required": ["event", "data"],
}
_STREAM_ID = path_id("id", "The `X-Request-Id` of the request.")

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/generate",
        name="generate",
        tag="native",
        summary="Generate text, whole or as a stream that outlives its connection",
        body=GenerateBody,
        parameters=(DEADLINE, IDEMPOTENCY_KEY),
        answers={200: Answer(description="The answer", body=Generated, event=_EVENT, rated=True)},
        errors=ADMISSION,
        error_body=Error,
    ),
    Operation(
        method="get",
        path="/v1/streams/{id}",
        name="follow",
        tag="native",
        summary="Follow a stream on, from any place in it",
        parameters=(
            _STREAM_ID,
            query("after", "The `id` of the last event that was seen.", {"type": "integer", "minimum": 0}),
            header("Last-Event-ID", "The same, as browsers send it.", {"type": "integer", "minimum": 0}),
        ),
        answers={
            200: Answer(description="What comes after it", event=_EVENT),
            204: Answer(description="The stream has ended, and nothing comes after it"),
        },
        errors=(*READING, Expired),
        error_body=Error,
    ),
    Operation(
        method="delete",
        path="/v1/streams/{id}",
        name="cancel",
        tag="native",
        summary="End a stream now",
        parameters=(_STREAM_ID,),
        answers={200: Answer(description="It has ended", body=Cancelled)},
        errors=(*READING, Expired),
        error_body=Error,
    ),
    Operation(
        method="get",
        path="/v1/ws",
        name="socket",
        tag="native",
        summary="Many streams on one WebSocket: it takes `generate`, `attach` and `cancel`, and gives the same events",
        answers={101: Answer(description="The handshake's answer")},
        errors=(*KEYED, InvalidRequest, Forbidden),
        error_body=Error,
    ),
    Operation(
        method="post",
        path="/v1/ws/tickets",
        name="ticket",
        tag="native",
        summary="A ticket for one WebSocket, for browsers, which cannot send a key: connect with `?ticket=…`",
        answers={200: Answer(description="The ticket", body=Ticket)},
        errors=KEYED,
        error_body=Error,
    ),
)
