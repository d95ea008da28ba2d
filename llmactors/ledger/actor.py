"""The actor that ends overdue requests and leases, and logs the requests that became dead letters."""

import contextlib
from collections.abc import Callable

import trio

from llmactors.actors import Actor, Context
from llmactors.errors import Unavailable
from llmactors.ledger.contract import Ledger
from llmactors.telemetry.bounded_log import BoundedLog


class ReaperActor(Actor):
    """Calls `Ledger.reap` every `every_s` seconds, or up to twice as often where the ledger foresees that something is
    due. Logs new dead letters every `report_every_s` seconds.

    Any number of these actors may run, on any node. With the default, a request without a reader or past its deadline
    frees its slot within 100 ms of its time: news that the last `reap` did not foresee wait for the next one.
    `count_given_up` is called for each dead letter that is logged here.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        count_given_up: Callable[[], None] = lambda: None,
        every_s: float = 0.09,
        report_every_s: float = 1.0,
    ) -> None:
        self._ledger = ledger
        self._count_given_up = count_given_up
        self._every_s = every_s
        self._report_every_s = report_every_s
        self._log = BoundedLog("llmactors.ledger")

    async def on_start(self, context: Context) -> None:
        context.spawn(self._reap)
        context.spawn(self._report)

    async def on_stop(self) -> None:
        with contextlib.suppress(Unavailable), trio.move_on_after(self._every_s):
            await self._report_once()

    async def _reap(self) -> None:
        while True:
            with contextlib.suppress(Unavailable):  # overdue requests can wait until the ledger is back
                await self._ledger.reap()
            # What is due one after the other, as the graces of many requests, is ended together.
            await trio.sleep(min(self._every_s, max(self._every_s / 2, self._ledger.due_in_s)))

    async def _report(self) -> None:
        while True:
            with contextlib.suppress(Unavailable):
                await self._report_once()
            await trio.sleep(self._report_every_s)

    async def _report_once(self) -> None:
        for letter in await self._ledger.take_new_dead_letters():
            self._count_given_up()
            self._log.write(
                "error",
                "a request was given up, and is a dead letter now",
                request_id=letter.request.id,
                tenant=letter.request.tenant,
                key_id=letter.request.key_id or None,
                model=letter.request.model,
                attempts=letter.attempt,
                cause=letter.cause,
            )
