"""The ASGI application of a node: finds the route of each request, checks the caller, and answers.

What a request may be, who may send it, and what is counted and logged all follow from the table of routes.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from urllib.parse import parse_qs

import structlog
import trio

from llmactors.access.authentication import Authenticator, Caller
from llmactors.access.origins import check_origin
from llmactors.errors import InvalidRequest, LlmactorsError, MethodNotAllowed, NotFound, Unavailable
from llmactors.gateway.errors import NATIVE_ERRORS
from llmactors.gateway.operators import OperatedNode
from llmactors.gateway.pages import Pages
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.route import Family, Route
from llmactors.gateway.routes import NATIVE, OPENAI, ROUTES
from llmactors.http.exchange import (
    Exchange,
    Receive,
    Scope,
    Send,
    check_connection,
    client_address,
    header,
    id_headers,
    refuse_handshake,
    serve,
)
from llmactors.http.inbox import Inbox
from llmactors.http.request_id import new_request_id
from llmactors.http.routing import Resource, Router

log = structlog.get_logger("llmactors.gateway")

_NO_PARAMETERS: Mapping[str, str] = {}


class App:
    """The application of a gateway, or, without a `service`, of a worker's operators' port.

    Args:
        service: What handlers work with. None on a worker, which serves the routes that are `on_worker`, to everybody.
        node: What the operators' pages show.
        access_log: Whether each client request is a line of the log.
        allowed_origins: The web pages of other hosts that may open a WebSocket.
    """

    def __init__(
        self,
        service: RequestService | None,
        node: OperatedNode,
        *,
        access_log: bool = False,
        allowed_origins: Sequence[str] = (),
    ) -> None:
        routes = [route for route in ROUTES if service is not None or route.on_worker]
        self._router: Router[Route] = Router(routes)
        self._pages = Pages(routes, node)
        self._service = service
        self._auth = Authenticator(None) if service is None else service.auth
        self._metrics = node.metrics
        self._access_log = access_log
        self._allowed_origins = allowed_origins

    def __repr__(self) -> str:
        return f"<App {self._router!r}>"

    async def __call__(self, scope: Scope, receive: Inbox, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        found = self._router.find(scope["path"])
        resource, parameters = found if found is not None else (None, _NO_PARAMETERS)
        family = _family(scope["path"], resource)
        exchange = Exchange(scope, receive, send, new_request_id(), family.errors)
        exchange.parameters = parameters
        exchange.timing_header = family.timing_header
        counted = family.counted and resource is not None
        if counted:
            self._metrics.request_started()
        try:
            await serve(exchange, partial(self._answer, exchange, resource))
        finally:
            seconds = trio.current_time() - exchange.begun
            if counted:
                self._metrics.request_finished(exchange.status or 499, seconds, exchange.code)
            if self._access_log and family.counted:
                log.info(
                    "request",
                    request_id=exchange.request_id,
                    method=scope["method"],
                    path=scope["path"],
                    route=None if resource is None else resource.path,
                    status=exchange.status,
                    code=exchange.code,
                    seconds=round(seconds, 4),
                )

    async def _answer(self, exchange: Exchange, resource: Resource[Route] | None) -> None:
        method = exchange.scope["method"]
        if resource is None:
            exchange.check_connection()
            self._auth.identify(exchange.scope["headers"], exchange.client)
            raise NotFound("there is no such route")
        route = resource.routes.get(method)
        is_open = any(each.is_open for each in resource.routes.values())
        if not is_open:
            exchange.check_connection()
        caller = None if is_open else self._auth.identify(exchange.scope["headers"], exchange.client)
        if route is None:
            if method != "OPTIONS":
                raise MethodNotAllowed(f"use {' or '.join(resource.allowed)}", allowed=tuple(resource.allowed))
            await exchange.empty(200, [("allow", ", ".join(resource.allowed))])
        elif route.page is not None:
            await self._pages.serve(exchange)
        elif route.handler is not None and caller is not None and self._service is not None:
            await route.handler(self._service, exchange, caller)
        else:
            raise InvalidRequest("this route is a WebSocket: connect with a handshake, as ws://…/v1/ws")

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # `websocket.connect`
        request_id = new_request_id()
        headers = id_headers(scope, request_id)
        try:
            check_connection(scope)
            check_origin(header(scope, b"origin"), header(scope, b"host"), self._allowed_origins)
            found = self._router.find(scope["path"])
            route = None if found is None else found[0].routes.get("GET")
            socket = None if route is None else route.socket
            caller = await self._identify_socket(scope, takes_tickets=socket is not None)
            if socket is None or self._service is None:
                raise NotFound("there is no such route for a WebSocket")
            if self._service.draining:
                raise Unavailable("this node is shutting down", retry_after_s=1.0)
        except LlmactorsError as error:
            await refuse_handshake(send, error, NATIVE_ERRORS, request_id, headers)
            return
        refused = partial(self._auth.wait_refused, caller)
        await socket(self._service, caller, receive, send, headers, refused)

    async def _identify_socket(self, scope: Scope, *, takes_tickets: bool) -> Caller:
        """The caller, by the ticket in the query if there is one, else by the key in the headers."""
        tickets = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("ticket")
        if tickets is not None and takes_tickets:
            return await self._auth.redeem_ticket(tickets[0], client_address(scope))
        return self._auth.identify(scope["headers"], client_address(scope))


def _family(path: str, resource: Resource[Route] | None) -> Family:
    """The API family whose form an answer at `path` has, also where there is no route."""
    if resource is not None:
        return next(iter(resource.routes.values())).family
    return OPENAI if path.startswith("/v1/") else NATIVE
