"""The requests of a model that cannot be loaded are ended."""

import trio
from trio.testing import MockClock

from llmactors.errors import BackendFailed
from llmactors.ledger import AppendResult, LedgerSettings, MemoryLedger
from llmactors.messages import Terminal
from llmactors.model_pool.refusing import end_waiting
from llmactors.testing.ledger_suite import request


class SlowLedger(MemoryLedger):
    """A ledger that takes a while to end a request."""

    async def finish(self, request_id: str, epoch: int, end: Terminal) -> AppendResult:
        await trio.sleep(0.2)
        return await super().finish(request_id, epoch, end)


async def test_queue_that_outlasts_a_lease_is_ended(autojump_clock: MockClock) -> None:
    ledger = SlowLedger(LedgerSettings(lease_s=5.0))
    for number in range(40):
        await ledger.submit(request(f"r{number}"))
    assert await end_waiting(ledger, "n", "m", BackendFailed("no memory")) == 40
    statistics = await ledger.statistics()
    assert (statistics.queued, statistics.running, statistics.ended_total) == (0, 0, 40)
