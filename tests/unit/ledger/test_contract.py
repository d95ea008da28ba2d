"""The ledger in memory keeps the contract. Time passes only when a test says so."""

import attrs
import pytest
from trio.testing import wait_all_tasks_blocked

from llmactors.ledger import Ledger, MemoryLedger
from llmactors.testing.ledger_suite import SUITE_SETTINGS, LedgerSuite, Rig


@attrs.define
class Time:
    now_s: float = 1000.0

    def now(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return 1_750_000_000_000 + round(self.now_s * 1000)

    async def pass_time(self, seconds: float) -> None:
        await wait_all_tasks_blocked()
        self.now_s += seconds


@pytest.fixture
def rig() -> Rig:
    time = Time()
    ledger: Ledger = MemoryLedger(SUITE_SETTINGS, now=time.now, wall_ms=time.wall_ms)
    return Rig(ledger, time.pass_time, time.wall_ms)


class TestMemoryLedger(LedgerSuite):
    """All tests of the suite, unchanged."""
