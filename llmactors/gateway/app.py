"""The gateway's ASGI application: the hot routes in front, Quart for everything else."""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast
from urllib.parse import parse_qs

import structlog
import trio
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from llmactors.access.authentication import OPEN_ROUTES, Authenticator, Caller
from llmactors.access.origins import check_origin
from llmactors.access.tickets import LIFE_S
from llmactors.errors import (
    InternalError,
    InvalidRequest,
    LlmactorsError,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    Unavailable,
)
from llmactors.gateway import health
from llmactors.gateway.errors import NATIVE_ERRORS
from llmactors.gateway.native import generate
from llmactors.gateway.native.websocket import SocketSession, refuse_handshake
from llmactors.gateway.openai import routes as openai
from llmactors.gateway.openai.errors import OPENAI_ERRORS
from llmactors.gateway.openai.responses import routes as responses
from llmactors.gateway.openapi import document as openapi
from llmactors.gateway.request_service import RequestService
from llmactors.http.exchange import (
    Exchange,
    Receive,
    Scope,
    Send,
    client_address,
    echoed,
    header,
    id_headers,
    serve,
)
from llmactors.http.inbox import Inbox
from llmactors.http.request_id import new_request_id

log = structlog.get_logger("llmactors.gateway")

SOCKET_PATH = "/v1/ws"


class App:
    """What the server calls for every exchange and WebSocket."""

    def __init__(
        self,
        service: RequestService,
        auth: Authenticator,
        tree: health.TreeSource,
        *,
        access_log: bool,
        allowed_origins: Sequence[str] = (),
    ) -> None:
        self._service = service
        self._auth = auth
        self._access_log = access_log
        self._allowed_origins = allowed_origins
        self._quart = _quart_app(service, auth, tree)

    async def __call__(self, scope: Scope, receive: Inbox, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        path = scope["path"]
        if path == "/v1/generate":
            await self._hot(generate.generate, Exchange(scope, receive, send, new_request_id(), NATIVE_ERRORS))
        elif path.startswith("/v1/streams/"):
            await self._hot(generate.stream, Exchange(scope, receive, send, new_request_id(), NATIVE_ERRORS))
        elif path == f"{SOCKET_PATH}/tickets":
            await self._hot(self._issue_ticket, Exchange(scope, receive, send, new_request_id(), NATIVE_ERRORS))
        elif openai.serves(path):
            await self._hot(openai.handle, Exchange(scope, receive, send, new_request_id(), OPENAI_ERRORS))
        elif responses.serves(path):
            await self._hot(responses.handle, Exchange(scope, receive, send, new_request_id(), OPENAI_ERRORS))
        else:
            await self._quart(cast("Any", scope), cast("Any", receive), cast("Any", send))

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # `websocket.connect`
        request_id = new_request_id()
        headers = id_headers(scope, request_id)
        try:
            check_origin(header(scope, b"origin"), header(scope, b"host"), self._allowed_origins)
            caller = await self._identify_socket(scope)
            if scope["path"] != SOCKET_PATH:
                raise NotFound("there is no such route for a WebSocket")
            if self._service.draining:
                raise Unavailable("this node is shutting down", retry_after_s=1.0)
        except LlmactorsError as error:
            await refuse_handshake(send, error, request_id, headers)
            return
        refused = partial(self._auth.wait_refused, caller)
        await SocketSession(self._service, caller, receive, send, refused).run(headers)

    async def _identify_socket(self, scope: Scope) -> Caller:
        """By a ticket, where there is one in the query."""
        tickets = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("ticket")
        if tickets is not None and scope["path"] == SOCKET_PATH:
            return await self._auth.redeem_ticket(tickets[0], client_address(scope))
        return self._auth.identify(scope["headers"], client_address(scope))

    async def _issue_ticket(self, _service: RequestService, exchange: Exchange, caller: Caller) -> None:
        """`POST /v1/ws/tickets`."""
        if exchange.scope["method"] != "POST":
            raise MethodNotAllowed("use POST", allowed=("POST",))
        ticket = await self._auth.issue_ticket(caller)
        await exchange.answer(200, {"ticket": ticket, "expires_in_s": round(LIFE_S)}, [("cache-control", "no-store")])

    async def _hot(self, handler: Any, exchange: Exchange) -> None:
        metrics = self._service.metrics
        metrics.request_started()
        try:

            async def run() -> None:
                caller = self._auth.identify(exchange.scope["headers"], exchange.client)
                await handler(self._service, exchange, caller)

            await serve(exchange, run)
        finally:
            seconds = trio.current_time() - exchange.begun
            metrics.request_finished(exchange.status or 499, seconds, exchange.code)
            if self._access_log:
                log.info(
                    "request",
                    request_id=exchange.request_id,
                    method=exchange.scope["method"],
                    path=exchange.scope["path"],
                    status=exchange.status,
                    code=exchange.code,
                    seconds=round(seconds, 4),
                )


def _quart_app(service: RequestService, auth: Authenticator, tree: health.TreeSource) -> QuartTrio:
    app = QuartTrio("llmactors.gateway", static_folder=None)
    # Quart's defaults cut a stream after 60 s; ours end when they end.
    app.config.update(RESPONSE_TIMEOUT=None, MAX_CONTENT_LENGTH=service.settings.max_body_bytes)
    # `//v1/tree` is another path than `/v1/tree`, not a redirect to it.
    app.url_map.merge_slashes = False
    health.add_routes(app, service, tree)
    openapi.add_routes(app)
    _add_error_handlers(app)

    @app.before_request
    async def check_key() -> None:
        if request.path not in OPEN_ROUTES:
            auth.identify(request.scope["headers"], request.remote_addr or "")

    @app.after_request
    async def add_request_id(response: Response) -> Response:
        response.headers.setdefault("X-Request-Id", new_request_id())
        client_id = request.headers.get("X-Request-Id")
        if client_id:
            response.headers["X-Client-Request-Id"] = echoed(client_id)
        return response

    @app.get(SOCKET_PATH)
    async def plain_socket() -> Response:
        raise InvalidRequest("this route is a WebSocket: connect with a handshake, as ws://…/v1/ws")

    return app


def _add_error_handlers(app: QuartTrio) -> None:
    @app.errorhandler(LlmactorsError)
    async def ours(error: LlmactorsError) -> Response:
        return _error_response(error)

    @app.errorhandler(HTTPException)
    async def quarts(error: HTTPException) -> Response:
        return _error_response(_translated(error))

    @app.errorhandler(Exception)
    async def unexpected(error: Exception) -> Response:
        log.error("request failed", path=request.path, exc_info=error)
        return _error_response(InternalError("internal error"))


def _error_response(error: LlmactorsError) -> Response:
    request_id = new_request_id()
    body = health.to_json(NATIVE_ERRORS.body(error, request_id))
    headers = dict([*NATIVE_ERRORS.headers(error), ("X-Request-Id", request_id)])
    return Response(body, status=error.status, headers=headers, content_type="application/json")


def _translated(error: HTTPException) -> LlmactorsError:
    match error.code:
        case 404:
            return NotFound("there is no such route")
        case 405:
            allowed = tuple(sorted(getattr(error, "valid_methods", None) or ()))
            return MethodNotAllowed(f"use {' or '.join(allowed)}", allowed=allowed)
        case 413:
            return TooLarge()
        case code if code is not None and 400 <= code < 500:
            return InvalidRequest(error.description or error.name)
    log.error("request failed", path=request.path, exc_info=error)
    return InternalError("internal error")
