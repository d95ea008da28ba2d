"""The actors that serve HTTP: a gateway's, with WebSockets too, and a worker's for its operators."""

from collections.abc import Callable

import attrs
import trio

from llmactors.actors import Actor, Context, Question
from llmactors.gateway.app import App
from llmactors.gateway.client_rules import ClientRules
from llmactors.gateway.errors import NATIVE_ERRORS
from llmactors.gateway.operators import OperatedNode
from llmactors.gateway.request_service import RequestService
from llmactors.http.connection_limits import Capacity
from llmactors.http.held_server import HeldServer, HeldSocket
from llmactors.http.server import ListeningSocket, Server, ServerSettings

CUT_S = 1.0
"""The time in which the clients of cut streams can read why their streams were cut."""
_OPERATORS_CAPACITY = Capacity(most=64, of_one_address=32, reserve=16)


@attrs.frozen
class DrainGateway(Question[None]):
    """Tells a gateway actor to stop accepting connections. The reply comes after the last exchange."""

    within_s: float
    """The time that open streams have to end by themselves, in seconds. Streams that are open after it are cut."""


class GatewayActor(Actor[DrainGateway]):
    """Serves the API of a node.

    A crash of this actor cuts the connections of its clients. Their streams go on, and the clients follow them again by
    `Last-Event-ID`. Under a keeper the process ends in place of that, and the connections go on at the next one.
    """

    def __init__(
        self, make_app: Callable[[], tuple[App, RequestService]], listening: ListeningSocket, settings: ServerSettings
    ) -> None:
        self._make_app = make_app
        self._listening = listening
        self._settings = settings

    async def on_start(self, context: Context) -> None:
        app, self._service = self._make_app()
        if isinstance(self._listening, HeldSocket):
            self._server: Server = HeldServer(app, self._listening, self._settings, NATIVE_ERRORS)
        else:
            self._server = Server(app, self._listening, self._settings, NATIVE_ERRORS)
        context.spawn(self._service.run)
        context.spawn(self._server.serve)

    async def on_message(self, message: DrainGateway) -> None:
        self._service.drain()
        with trio.move_on_after(message.within_s) as waiting:
            await self._server.drain()
        if waiting.cancelled_caught:
            self._service.cut()
            with trio.move_on_after(CUT_S):
                await self._server.drain()
        if isinstance(self._server, HeldServer):
            self._server.let_go()


class OperatorsActor(Actor):
    """Serves a worker's pages for its operators."""

    def __init__(self, node: OperatedNode, listening: ListeningSocket, rules: ClientRules) -> None:
        app = App(None, node, rules=rules)
        self._server = Server(app, listening, ServerSettings(capacity=_OPERATORS_CAPACITY), NATIVE_ERRORS)

    async def on_start(self, context: Context) -> None:
        context.spawn(self._server.serve)
