"""A server whose connections come from a keeper, which accepted them and holds a copy of each."""

from functools import partial

import trio

from llmactors.http.exchange import ErrorRenderer
from llmactors.http.held_connection import HeldServerConnection
from llmactors.http.inbox import Application
from llmactors.http.keeper_link import GivenConnection, KeeperLink
from llmactors.http.server import ListeningSocket, Server, ServerSettings, url_of
from llmactors.keeper.protocol import StopAccepting


class HeldSocket(ListeningSocket):
    """The address on which the keeper listens."""

    def __init__(self, link: KeeperLink) -> None:
        self.link = link
        self.url = url_of(*link.address)

    def listen(self) -> None:
        """Does nothing: the keeper listens."""

    def close(self) -> None:
        """Does nothing: a gateway that ends by a fault, or before it served, leaves the address open for the next."""


class HeldServer(Server):
    """Serves the connections that the keeper gives."""

    def __init__(self, app: Application, held: HeldSocket, settings: ServerSettings, errors: ErrorRenderer) -> None:
        super().__init__(app, held, settings, errors)
        self._link = held.link

    async def drain(self) -> None:
        """As for every server. The keeper refuses new connections from here on."""
        self._link.send_nowait(StopAccepting())
        await super().drain()

    async def _accept(self, nursery: trio.Nursery) -> None:
        # Connections come also after the server has begun to drain, and the keeper must hear of each one's end.
        nursery.start_soon(self._link.take_connections, partial(self._begin_given, nursery))
        await trio.sleep_forever()

    def _begin_given(self, nursery: trio.Nursery, given: GivenConnection) -> None:
        connection = HeldServerConnection(
            self._app, self._protocol, given, self._settings.connection, self._throttle, self._link
        )
        self._begin(connection, given.socket, nursery)
