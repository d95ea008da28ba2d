"""The actor that serves HTTP and WebSocket."""

from collections.abc import Callable

import attrs
import trio

from llmactors.actors import Actor, Context
from llmactors.gateway.app import App
from llmactors.gateway.errors import NATIVE_ERRORS
from llmactors.gateway.request_service import RequestService
from llmactors.http.server import ListeningSocket, Server, ServerSettings

CUT_S = 1.0
"""How long the clients of cut streams have to read why."""


@attrs.frozen
class DrainGateway:
    """Ask this to stop accepting. Answered when the last exchange is over, at the latest a little after `within_s`."""

    within_s: float
    """How long open streams may take to end by themselves, in seconds; after that they are cut."""


class GatewayActor(Actor):
    """A crash of it cuts its clients' connections; their streams go on, and they come back by `Last-Event-ID`."""

    def __init__(
        self, make_app: Callable[[], tuple[App, RequestService]], listening: ListeningSocket, settings: ServerSettings
    ) -> None:
        self._make_app = make_app
        self._listening = listening
        self._settings = settings

    async def on_start(self, context: Context) -> None:
        app, self._service = self._make_app()
        self._server = Server(app, self._listening, self._settings, NATIVE_ERRORS)
        context.spawn(self._service.run)
        context.spawn(self._server.serve)

    async def on_message(self, message: DrainGateway) -> None:
        self._service.drain()
        with trio.move_on_after(message.within_s):
            await self._server.drain()
            return
        self._service.cut()
        with trio.move_on_after(CUT_S):
            await self._server.drain()
