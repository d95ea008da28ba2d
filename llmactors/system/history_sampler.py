"""Ends the steps of a node's history, from the records of all nodes that the node knows."""

import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence

import trio

from llmactors.cluster.node_record import NodeRecord
from llmactors.errors import Unavailable
from llmactors.ledger import LedgerStatistics
from llmactors.telemetry.history import STEP_S, LastHour, NodeCounts


class HistorySampler:
    """A task must run `run`.

    Args:
        history: What the samples go to.
        records: The records of the nodes.
        statistics: The figures of the ledger; None on a worker, which shows what itself runs.
    """

    def __init__(
        self,
        history: LastHour,
        records: Callable[[], Sequence[NodeRecord]],
        statistics: Callable[[], Awaitable[LedgerStatistics]] | None = None,
    ) -> None:
        self._history = history
        self._records = records
        self._statistics = statistics

    def __repr__(self) -> str:
        return f"<HistorySampler of {self._history!r}>"

    async def run(self) -> None:
        """Takes a sample at the end of each step, until cancelled."""
        due = trio.current_time()
        while True:
            await self.sample()
            due = max(due + STEP_S, trio.current_time())
            await trio.sleep_until(due)

    async def sample(self) -> None:
        """Ends a step. While the ledger is away, nobody knows how many requests run and wait."""
        records, now = self._records(), time.time()
        running: int | None = sum(record.load.running for record in records)
        waiting: int | None = None
        if self._statistics is not None:
            running = None
            with contextlib.suppress(Unavailable):
                figures = await self._statistics()
                running, waiting = figures.running, figures.queued
        nodes = [
            NodeCounts(record.incarnation, record.counts, is_new=now - record.started_at < 2 * STEP_S)
            for record in records
        ]
        self._history.take(nodes, running=running, waiting=waiting, unix_s=now)
