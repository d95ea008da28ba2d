"""The actor at which a gateway waits, ready to serve, until its keeper makes it the active one."""

import contextlib
from collections.abc import Awaitable, Callable

import trio

from llmactors.actors import Actor, Context
from llmactors.errors import LlmactorsError
from llmactors.http.keeper_link import KeeperLink
from llmactors.system.calm_collector import calm_garbage_collector

_LEDGER_S = 1.0


class StandbyActor(Actor):
    """Starts once this process is the active gateway, so that what the tree starts behind this actor waits for that.

    The gateway's actor runs before: it takes up connections as soon as the keeper gives them.

    Args:
        link: The link to the keeper.
        ask_ledger: Any call of the ledger. Its answer shows that this gateway serves.
        refresh: Reads the settings again: they may have changed while this gateway waited.
        wait_up: Returns once the whole tree is up.
    """

    def __init__(
        self,
        link: KeeperLink,
        ask_ledger: Callable[[], Awaitable[object]],
        refresh: Callable[[], object],
        wait_up: Callable[[], Awaitable[object]],
    ) -> None:
        self._link = link
        self._ask_ledger = ask_ledger
        self._wait_up = wait_up
        link.on_go = refresh

    async def on_start(self, context: Context) -> None:
        # Done now, because it would take a tenth of a second in which the connections have to wait.
        calm_garbage_collector()
        context.spawn(self._link.beat)
        await self._link.wait_go()
        context.spawn(self._tell_active)

    async def _tell_active(self) -> None:
        while True:
            await self._link.all_given.wait()
            await self._wait_up()
            # Without its ledger a gateway serves too: it says that it is not ready, and lets requests come again.
            with trio.move_on_after(_LEDGER_S), contextlib.suppress(LlmactorsError):
                await self._ask_ledger()
            self._link.tell_active()
