"""The actor that keeps a ledger tidy: it reaps what is overdue."""

import contextlib

import trio

from llmactors.actors import Actor, Context
from llmactors.errors import Unavailable
from llmactors.ledger.contract import Ledger


class ReaperActor(Actor):
    """Reaps every `every_s` seconds. Any number of these may run beside each other, on any node.

    With its default what nobody reads any more, and what is late, has lost its slot within 100 ms.
    """

    def __init__(self, ledger: Ledger, *, every_s: float = 0.05) -> None:
        self._ledger = ledger
        self._every_s = every_s

    async def on_start(self, context: Context) -> None:
        context.spawn(self._reap)

    async def _reap(self) -> None:
        while True:
            with contextlib.suppress(Unavailable):  # what is overdue can wait until the ledger is back
                await self._ledger.reap()
            await trio.sleep(self._every_s)
