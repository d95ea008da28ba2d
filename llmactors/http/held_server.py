"""A server whose connections come from a keeper, which accepted them and holds a copy of each.

Whatever cancels this server while it has connections, as a crash of its actor or a restart by a supervisor, would run
the cleanup of each connection, and that cuts it. So the process ends before that, and the next gateway goes on.
"""

from collections.abc import Callable
from functools import partial
from typing import NoReturn

import trio

from llmactors.http.exchange import ErrorRenderer
from llmactors.http.held_connection import HeldServerConnection
from llmactors.http.keeper_link import GivenConnection, KeeperLink
from llmactors.http.server import ListeningSocket, Server, ServerSettings, url_of
from llmactors.http.taken_connection import HeldApplication, TakenServerConnection
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

    def __init__(self, app: HeldApplication, held: HeldSocket, settings: ServerSettings, errors: ErrorRenderer) -> None:
        super().__init__(app, held, settings, errors)
        self._held_app = app
        self._link = held.link
        self._may_end = False
        """Whether connections may end with this server: it was asked to stop, and has waited for them."""

    async def drain(self) -> None:
        """As for every server. The keeper refuses new connections from here on."""
        self._link.send_nowait(StopAccepting())
        await super().drain()

    async def _accept(self, nursery: trio.Nursery) -> None:
        # Connections come also after the server has begun to drain, and the keeper must hear of each one's end.
        nursery.start_soon(self._link.take_connections, partial(self._begin_given, nursery))
        nursery.start_soon(self._end_process_instead)
        await trio.sleep_forever()

    def let_go(self) -> None:
        """Lets connections that are still open end with this server."""
        self._may_end = True

    async def _end_process_instead(self) -> None:
        """Ends the process at the moment at which this task is cancelled, and with it the server.

        Trio calls `abort` within the call that cancels, before any task of the server runs again.
        """

        def abort(raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
            if self._open and not self._may_end:
                self._link.fail(_reason(raise_cancel))
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _begin_given(self, nursery: trio.Nursery, given: GivenConnection) -> None:
        kind = TakenServerConnection if given.told.taken_over else HeldServerConnection
        connection = kind(self._held_app, self._protocol, given, self._settings.connection, self._throttle, self._link)
        self._begin(connection, given.socket, nursery, is_known=given.told.taken_over)


def _reason(raise_cancel: Callable[[], NoReturn]) -> str:
    """Why a task is cancelled, as Trio says."""
    try:
        raise_cancel()
    except trio.Cancelled as cancelled:
        return str(cancelled)
