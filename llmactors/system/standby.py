"""The actor at which a gateway waits, ready to serve, until its keeper makes it the active one."""

from collections.abc import Awaitable, Callable

import trio

from llmactors.actors import Actor, Context
from llmactors.errors import LlmactorsError
from llmactors.http.keeper_link import KeeperLink
from llmactors.system.calm_collector import calm_garbage_collector

_AGAIN_S = 0.1


class StandbyActor(Actor):
    """Starts once this process is the active gateway, so that what the tree starts behind this actor waits for that.

    Args:
        link: The link to the keeper.
        ask_ledger: Any call of the ledger. Its answer shows that this gateway serves.
    """

    def __init__(self, link: KeeperLink, ask_ledger: Callable[[], Awaitable[object]]) -> None:
        self._link = link
        self._ask_ledger = ask_ledger

    async def on_start(self, context: Context) -> None:
        # Done now, because it would take a tenth of a second in which the connections have to wait.
        calm_garbage_collector()
        await self._link.wait_go()
        context.spawn(self._tell_active)

    async def _tell_active(self) -> None:
        while True:
            await self._link.all_given.wait()
            await self._wait_ledger()
            self._link.tell_active()

    async def _wait_ledger(self) -> None:
        while True:
            try:
                await self._ask_ledger()
            except LlmactorsError:
                await trio.sleep(_AGAIN_S)
            else:
                return
