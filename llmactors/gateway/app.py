"""The ASGI application of a node: finds the route of each request, checks the caller, and answers.

What a request may be, who may send it, and what is counted and logged all follow from the table of routes.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from urllib.parse import unquote

import msgspec
import trio

from llmactors.access.authentication import Authenticator, Caller, check_operator, sends_key
from llmactors.access.keys.text import Credential
from llmactors.access.origins import changes_state
from llmactors.errors import InvalidRequest, LlmactorsError, MethodNotAllowed, NotFound, Unavailable
from llmactors.gateway.access_log import AccessEntry, log_change
from llmactors.gateway.client_rules import ClientRules
from llmactors.gateway.errors import NATIVE_ERRORS
from llmactors.gateway.native.followed_streams import CALLER_KEY
from llmactors.gateway.native.websocket import held_websocket, refuse_to_go_on
from llmactors.gateway.operating.session import session_token
from llmactors.gateway.operators import OperatedNode
from llmactors.gateway.pages import Pages
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.route import Family, Route
from llmactors.gateway.routes import ANTHROPIC, NATIVE, OPENAI, ROUTES
from llmactors.gateway.streaming.begun_stream import BegunStream, read_note
from llmactors.gateway.streaming.resuming import Reached, last_seq
from llmactors.http.answer_note import AnswerNote
from llmactors.http.exchange import (
    Exchange,
    Receive,
    Scope,
    Send,
    check_connection,
    client_address,
    id_headers,
    serve,
)
from llmactors.http.inbox import Application, Inbox
from llmactors.http.protocol_settings import Address, client_host
from llmactors.http.refused_handshake import refuse_handshake
from llmactors.http.request_id import new_request_id
from llmactors.http.routing import Resource, Router

_NO_PARAMETERS: Mapping[str, str] = {}
MAX_PARAMETERS = 64
"""The ticket must be among the first parameters of a query."""


class App:
    """The application of a gateway, or, without a `service`, of a worker's operators' port.

    Args:
        service: What handlers work with. None on a worker, which serves the routes that are `on_worker`, to everybody.
        node: What the operators' pages show.
        rules: Says which hosts a request may name, and which web pages may send it.
    """

    def __init__(
        self,
        service: RequestService | None,
        node: OperatedNode,
        *,
        rules: ClientRules | None = None,
    ) -> None:
        routes = [route for route in ROUTES if service is not None or route.on_worker]
        self._router: Router[Route] = Router(routes)
        self._pages = Pages(routes, node)
        self._node = node
        self._service = service
        self._auth = Authenticator(None) if service is None else service.auth
        self._metrics = node.metrics
        self._rules = rules or ClientRules()

    def __repr__(self) -> str:
        return f"<App {self._router!r}>"

    async def __call__(self, scope: Scope, receive: Inbox, send: Send) -> None:
        self._rules.resolve_client(scope)
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        found = self._router.find(scope["path"])
        resource, parameters = found if found is not None else (None, _NO_PARAMETERS)
        family = _family(scope["path"], resource)
        exchange = Exchange(scope, receive, send, _request_id(scope), family.errors)
        exchange.parameters = parameters
        exchange.timing_header = family.timing_header
        exchange.id_header = family.id_header
        exchange.shared_headers = self._rules.answer_headers(scope)
        await self._serve_counted(exchange, family, resource, partial(self._answer_again, exchange, resource))

    async def take_up(self, begun: AnswerNote, reached: bytes, client: Address) -> Application | None:
        """Returns what sends the rest of an answer that an earlier gateway began; None where its request is needed."""
        found, note, service = self._router.find(begun.path), read_note(begun.application), self._service
        resource = None if found is None else found[0]
        route = None if resource is None else resource.routes.get(begun.method)
        if resource is None or route is None or route.go_on is None or note is None or service is None:
            return None
        if not reached:
            return None  # the client has the head alone, and of a stream that it follows again perhaps more
        where = Reached.parse(reached)
        if where.end_pieces or len(where.seqs) != 1:
            return None
        try:
            caller = self._auth.recall(note.credential, note.client or client_host(client))
            had, follower = await service.follow_behind(note.request_id, where.seqs[0])
        except LlmactorsError:
            return None  # the handler knows what to say
        if last_seq(had) < where.seqs[0]:
            return None
        return partial(self._go_on, resource, route, caller, BegunStream(note, had, follower))

    async def _go_on(
        self,
        resource: Resource[Route],
        route: Route,
        caller: Caller,
        stream: BegunStream,
        scope: Scope,
        receive: Inbox,
        send: Send,
    ) -> None:
        """Answers with the rest of a stream."""
        note = stream.note
        self._rules.recall_client(scope, note.client)
        exchange = Exchange(scope, receive, send, note.request_id, route.family.errors)
        exchange.status, exchange.caller = 200, caller
        exchange.model = note.model if note.is_asked_here else ""

        async def answer() -> None:
            assert route.go_on is not None and self._service is not None  # noqa: S101, PT018 - `take_up` saw to it
            with self._rules.counting(scope), self._noting(exchange):
                await route.go_on(self._service, exchange, stream)

        await self._serve_counted(exchange, route.family, resource, answer)

    async def _serve_counted(
        self,
        exchange: Exchange,
        family: Family,
        resource: Resource[Route] | None,
        answer: Callable[[], Awaitable[None]],
    ) -> None:
        """Counts and logs an exchange that `answer` answers."""
        counted = family.counted and resource is not None
        if counted:
            self._metrics.request_started()
        try:
            await serve(exchange, answer)
        finally:
            seconds = trio.current_time() - exchange.begun
            self._metrics.route_used("none" if resource is None else resource.path)
            if exchange.on_end is not None:
                exchange.on_end()
                exchange.on_end = None  # it refers to the exchange
            if counted:
                self._metrics.request_finished(exchange.status or 499, seconds, exchange.code, exchange.model)
            await self._log(exchange, resource, seconds, of_client=family.counted)

    async def _log(
        self, exchange: Exchange, resource: Resource[Route] | None, seconds: float, *, of_client: bool
    ) -> None:
        """Tells the access log of a client's request, and the log of an operator's change."""
        scope = exchange.scope
        service, route = self._service, None if resource is None else resource.routes.get(scope["method"])
        is_change = route is not None and route.for_operators and changes_state(scope["method"])
        is_noted = service is not None and of_client and service.access_log.takes(exchange.code)
        if not is_change and not is_noted:
            return
        entry = AccessEntry(
            request_id=exchange.request_id,
            client=exchange.client,
            caller=exchange.caller if isinstance(exchange.caller, Caller) else None,
            method=scope["method"],
            path=scope["path"],
            route=None if resource is None else resource.path,
            model=exchange.model,
            status=exchange.status,
            code=exchange.code,
            seconds=seconds,
            ttft_s=exchange.ttft_s(),
        )
        if is_change:
            log_change(entry)
        if is_noted and service is not None:
            await service.access_log.note(entry)

    async def _answer_again(self, exchange: Exchange, resource: Resource[Route] | None) -> None:
        """As `_answer`. What an earlier gateway has begun to answer waits for a ledger that is away."""
        answer = partial(self._answer, exchange, resource)
        if exchange.held is None or not exchange.held.is_repeated or self._service is None:
            await answer()
            return

        async def answer_unless_begun() -> None:
            try:
                await answer()
            except Unavailable as error:
                if not exchange.status:
                    raise
                failed.append(error)

        failed: list[Unavailable] = []
        await self._service.outages.through(answer_unless_begun)
        if failed:
            raise failed[0]

    async def _answer(self, exchange: Exchange, resource: Resource[Route] | None) -> None:
        routes = {} if resource is None else resource.routes
        is_open = any(each.is_open for each in routes.values())
        if is_open and not changes_state(exchange.scope["method"]):
            await self._answer_checked(exchange, resource, is_open=True)
            return
        exchange.check_connection()
        with self._rules.counting(exchange.scope):
            await self._answer_checked(exchange, resource, is_open=is_open)

    async def _answer_checked(self, exchange: Exchange, resource: Resource[Route] | None, *, is_open: bool) -> None:
        scope, method = exchange.scope, exchange.scope["method"]
        if resource is None or not any(each.is_probe for each in resource.routes.values()):
            await self._rules.check_host(scope)
        self._rules.check_page(scope)
        if is_open and session_token(scope) is not None:
            self._rules.check_own_page(scope)  # the routes of sessions, which ask for no key
        if resource is None:
            await self._identify(scope)
            raise NotFound("there is no such route")
        if await self._rules.answer_preflight(exchange, resource.allowed):
            return
        route = resource.routes.get(method)
        takes_ticket = route is not None and route.takes_ticket
        stream = exchange.parameters.get("id") if takes_ticket else None
        caller = None if is_open else await self._identify(scope, takes_ticket=takes_ticket, stream=stream)
        exchange.caller = caller
        if route is not None and route.for_operators and caller is not None:
            check_operator(caller)
        if route is not None and route.for_operators and changes_state(method):
            exchange.check_first_time()
        if route is None:
            if method != "OPTIONS":
                raise MethodNotAllowed(f"use {' or '.join(resource.allowed)}", allowed=tuple(resource.allowed))
            await exchange.empty(200, [("allow", ", ".join(resource.allowed))])
        else:
            await self._serve(route, exchange, caller)

    async def _serve(self, route: Route, exchange: Exchange, caller: Caller | None) -> None:
        if route.page is not None:
            await self._pages.serve(exchange)
        elif route.file is not None:
            await route.file(exchange)
        elif route.operation is not None:
            await route.operation(self._node, exchange)
        elif route.handler is not None and caller is not None and self._service is not None:
            await self._service.wait_known()
            with self._noting(exchange):
                await route.handler(self._service, exchange, caller)
        else:
            raise InvalidRequest("this route is a WebSocket: connect with a handshake, as ws://…/v1/ws")

    def _noting(self, exchange: Exchange) -> AbstractContextManager[None]:
        """Lets drills find the connection of the exchange in the block."""
        drills = self._node.drills
        return contextlib.nullcontext() if drills is None else drills.connections.noting(exchange)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # `websocket.connect`
        request_id = _request_id(scope)
        headers = id_headers(scope, request_id)
        held = held_websocket(scope)
        with contextlib.ExitStack() as stack:
            try:
                check_connection(scope)
                stack.enter_context(self._rules.counting(scope))
                serve_accepted, caller = await self._accept_handshake(scope)
            except LlmactorsError as error:
                if held is not None and held.is_resumed:
                    await refuse_to_go_on(send, str(error))
                else:
                    await refuse_handshake(send, error, NATIVE_ERRORS, request_id, headers)
                return
            if held is not None:
                held.keep(CALLER_KEY, msgspec.json.encode(caller.credential))
            await serve_accepted(receive, send, headers, partial(self._auth.wait_refused, caller))

    async def _accept_handshake(self, scope: Scope) -> tuple[Callable[..., Awaitable[None]], Caller]:
        """The function that serves the WebSocket, and the caller. Raises the error that refuses the handshake."""
        await self._rules.check_host(scope)
        self._rules.check_page(scope)
        found = self._router.find(scope["path"])
        route = None if found is None else found[0].routes.get("GET")
        takes_ticket = route is not None and route.socket is not None and route.takes_ticket
        held = held_websocket(scope)
        if held is not None and held.is_resumed:
            credential = msgspec.json.decode(held.notes[CALLER_KEY], type=Credential | None)
            caller = self._auth.recall(credential, client_address(scope))
        else:
            caller = await self._identify(scope, takes_ticket=takes_ticket)
        if route is None or route.socket is None or self._service is None:
            raise NotFound("there is no such route for a WebSocket")
        if held is None or not held.is_resumed:
            self._service.check_takes_work()
        await self._service.wait_known()
        return partial(route.socket, self._service, caller, scope), caller

    async def _identify(self, scope: Scope, *, takes_ticket: bool = False, stream: str | None = None) -> Caller:
        """The caller, by the ticket in the query if the route takes one, else by the key in the headers, or by the
        session of an operator.

        `stream` is the id of the stream that a ticket is to open; None for a WebSocket.
        """
        ticket = _ticket_of(scope) if takes_ticket else None
        if ticket is not None:
            # A gateway that reads the same handshake after the death of this one has the same id for it.
            handshake = None if held_websocket(scope) is None else _request_id(scope)
            return await self._auth.redeem_ticket(ticket, client_address(scope), stream=stream, handshake=handshake)
        if scope["type"] == "http" and not self._auth.is_open and not sends_key(scope["headers"]):
            token = session_token(scope)
            if token is not None:
                self._rules.check_own_page(scope)
                return await self._auth.resume_session(token, client_address(scope))
        return await self._auth.authenticate(scope["headers"], client_address(scope))


def _request_id(scope: Scope) -> str:
    """The id of a new exchange. A request that an earlier process may have read has the same id as there."""
    held = scope.get("state", {}).get("held")
    return new_request_id() if held is None else str(held.request_id)


def _ticket_of(scope: Scope) -> str | None:
    for part in scope.get("query_string", b"").split(b"&", MAX_PARAMETERS):
        name, _, value = part.partition(b"=")
        if name == b"ticket":
            return unquote(value.decode("latin-1"))
    return None


def _family(path: str, resource: Resource[Route] | None) -> Family:
    """The API family whose form an answer at `path` has, also where there is no route."""
    if resource is not None:
        return next(iter(resource.routes.values())).family
    if path.startswith("/v1/messages/"):
        return ANTHROPIC
    return OPENAI if path.startswith("/v1/") else NATIVE
