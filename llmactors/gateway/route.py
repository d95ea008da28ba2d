"""One entry of the table of routes: everything about a route stands in its entry."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
from quart import Response

from llmactors.access.authentication import Caller
from llmactors.errors import Forbidden, InternalError, LlmactorsError, RateLimited, Unauthenticated, Unavailable
from llmactors.gateway.native.websocket import SocketHandler
from llmactors.gateway.operators import OperatedNode
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.streaming.begun_stream import BegunStream
from llmactors.http.exchange import ErrorRenderer, Exchange

Schema = dict[str, Any]
"""A JSON schema, or a part of one."""
Handler = Callable[[RequestService, Exchange, Caller], Awaitable[None]]
"""Answers a request on the exchange itself: for the routes of which there are many requests."""
GoOn = Callable[[RequestService, Exchange, BegunStream], Awaitable[None]]
"""Sends the rest of a stream that an earlier gateway began to answer with on the same connection, without its request.
The head of the response was sent."""
Operation = Callable[[OperatedNode, Exchange], Awaitable[None]]
"""Answers an operator on the exchange itself."""
Page = Callable[[OperatedNode], Awaitable[Response]]
"""Answers a request by Quart: for operators, and for documents."""
FileHandler = Callable[[Exchange], Awaitable[None]]
"""Answers a request with a file, which is the same on every node."""

_KEYED: tuple[type[LlmactorsError], ...] = (Unauthenticated, Forbidden, RateLimited, Unavailable)
"""The errors of every route that asks for a key: a host or a web page may not be allowed, an address must wait after
too many wrong keys, and the keys may be in a Redis that is away."""


@attrs.frozen(kw_only=True, eq=False)
class Family:
    """The routes of one API, which have the form of their errors in common."""

    tag: str
    errors: ErrorRenderer
    error_body: type
    """The type that `errors` renders."""
    counted: bool = True
    """Whether the requests are requests of clients, which the request metrics count and the access log shows."""
    id_header: str | None = None
    """Another response header with the id of the request, beside `X-Request-Id`; None for no other header."""
    timing_header: str | None = None
    """The response header with the milliseconds until the response began; None for no header."""


@attrs.frozen(kw_only=True)
class ResponseSpec:
    """What a status of a route means, for the OpenAPI document."""

    description: str
    body: Any = None
    """The type of the JSON body; None for no JSON body."""
    event: Schema | None = None
    """The schema of each server-sent event, where the response can be a stream."""
    media: str = ""
    """The content type of a body that is neither JSON nor a stream."""
    limited: bool = False
    """Whether the response has headers that show the caller's limits."""


@attrs.frozen(kw_only=True, eq=False)
class Route:
    """One method of one path. Exactly one of `handler`, `operation`, `page`, `file` and `socket` serves it."""

    method: str
    path: str
    family: Family
    name: str
    """The operation's id in the OpenAPI document."""
    summary: str
    handler: Handler | None = None
    go_on: GoOn | None = None
    """Goes on with a stream that `handler` has noted; None where `handler` notes none."""
    operation: Operation | None = None
    page: Page | None = None
    file: FileHandler | None = None
    socket: SocketHandler | None = None
    body: Any = None
    """The type of the JSON that clients send; None for none."""
    body_schema: Schema = attrs.field(factory=dict)
    """What to add to the schema of `body` because the type cannot say it."""
    parameters: tuple[Schema, ...] = ()
    responses: Mapping[int, ResponseSpec]
    raises: tuple[type[LlmactorsError], ...] = ()
    """The errors that the handler can refuse a request with, beside those of every route."""
    for_operators: bool = False
    """Whether only operators may use the route."""
    is_open: bool = False
    """Whether the route asks for no key, also where the node has keys."""
    is_probe: bool = False
    """Whether the route answers to every host name: for health probes and scrapes, which name a node as they like."""
    takes_ticket: bool = False
    """Whether a ticket in the query is accepted in place of a key."""
    head: bool = True
    """Whether HEAD is answered as GET without the body. A stream has no such answer."""
    on_worker: bool = False
    """Whether a worker serves the route too, on its operators' port."""

    def __attrs_post_init__(self) -> None:
        served_by = self.handler, self.operation, self.page, self.file, self.socket
        if sum(each is not None for each in served_by) != 1:
            raise ValueError(
                f"{self.method} {self.path} needs exactly one of `handler`, `operation`, `page`, `file` and `socket`"
            )

    @property
    def errors(self) -> tuple[type[LlmactorsError], ...]:
        """All errors that a request can be refused with."""
        common = _KEYED if not self.is_open else () if self.is_probe else (Forbidden,)
        return tuple(dict.fromkeys((*common, InternalError, *self.raises)))
