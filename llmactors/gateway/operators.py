"""What a node without clients serves to its operators: `/livez`, `/readyz`, `/metrics` and `/v1/tree`, nothing else."""

from collections.abc import Callable

from llmactors.actors import Actor, Context
from llmactors.errors import MethodNotAllowed, NotFound
from llmactors.gateway.errors import NATIVE_ERRORS
from llmactors.gateway.health import TreeSource
from llmactors.http.exchange import Exchange, Scope, Send, serve
from llmactors.http.inbox import Inbox
from llmactors.http.request_id import new_request_id
from llmactors.http.server import ListeningSocket, Server, ServerSettings


class OperatorsApp:
    """A plain ASGI application. `problems` says what keeps the node from working, by component."""

    def __init__(
        self, problems: Callable[[], dict[str, str]], render: Callable[[], tuple[bytes, str]], tree: TreeSource
    ) -> None:
        self._problems = problems
        self._render = render
        self._tree = tree

    async def __call__(self, scope: Scope, receive: Inbox, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        exchange = Exchange(scope, receive, send, new_request_id(), NATIVE_ERRORS)

        async def handle() -> None:
            if scope["method"] not in {"GET", "HEAD"}:
                raise MethodNotAllowed("use GET", allowed=("GET",))
            await self._answer(exchange)

        await serve(exchange, handle)

    async def _answer(self, exchange: Exchange) -> None:
        match exchange.scope["path"]:
            case "/livez":
                await exchange.answer(200, {"status": "ok"})
            case "/readyz":
                problems = self._problems()
                payload = {"status": "not ready" if problems else "ready", "problems": problems}
                await exchange.answer(503 if problems else 200, payload, [("retry-after", "1")] if problems else ())
            case "/metrics":
                body, content_type = self._render()
                await exchange.start(200, [("content-length", str(len(body)))], content_type)
                await exchange.write(body, more=False)
            case "/v1/tree":
                await exchange.answer(200, self._tree())
            case _:
                raise NotFound("there is no such route; there are: /livez, /readyz, /metrics, /v1/tree")


class OperatorsActor(Actor):
    """Serves an `OperatorsApp` on one address."""

    def __init__(self, app: OperatorsApp, listening: ListeningSocket) -> None:
        self._server = Server(app, listening, ServerSettings(max_connections=64), NATIVE_ERRORS)

    async def on_start(self, context: Context) -> None:
        context.spawn(self._server.serve)
