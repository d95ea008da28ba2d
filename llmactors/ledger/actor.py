"""The actor that ends overdue requests and leases."""

import contextlib

import trio

from llmactors.actors import Actor, Context
from llmactors.errors import Unavailable
from llmactors.ledger.contract import Ledger


class ReaperActor(Actor):
    """Calls `Ledger.reap` every `every_s` seconds. Any number of these actors may run, on any node.

    With the default, a request without a reader or past its deadline frees its slot within 100 ms of its time.
    """

    def __init__(self, ledger: Ledger, *, every_s: float = 0.05) -> None:
        self._ledger = ledger
        self._every_s = every_s

    async def on_start(self, context: Context) -> None:
        context.spawn(self._reap)

    async def _reap(self) -> None:
        while True:
            with contextlib.suppress(Unavailable):  # overdue requests can wait until the ledger is back
                await self._ledger.reap()
            await trio.sleep(self._every_s)
