"""The ledger in memory does what a naive model does, for random operations in random order."""

from hypothesis import HealthCheck, settings

from llmactors.ledger import Ledger, LedgerSettings, MemoryLedger
from llmactors.testing.ledger_suite.limit_machine import LimitMachine
from llmactors.testing.ledger_suite.machine import LedgerMachine
from tests.support.residue import residue


class MemoryMachine(LedgerMachine):
    def make_ledger(self, settings: LedgerSettings) -> Ledger:
        return MemoryLedger(settings, now=self.now, wall_ms=self.wall_ms)

    def check_empty(self) -> None:
        assert set(residue(self.ledger)) <= {
            "_life.dead_letters",
            "_life._new_dead_letters",
            "_life.conversations._workers",
            "_life._preemptions._last",
            "_life.leases._dead",
            "_life.silent._held",
            "_life.usage._records",
            "_life.usage._sums",
        }


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(
    max_examples=50,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class MemoryLimitMachine(LimitMachine):
    def make_ledger(self, settings: LedgerSettings) -> Ledger:
        return MemoryLedger(settings, now=self.now, wall_ms=self.wall_ms)

    def teardown(self) -> None:
        super().teardown()
        assert not {"_life.limits._permits._open"} & set(residue(self.ledger))


TestMemoryLimitMachine = MemoryLimitMachine.TestCase
TestMemoryLimitMachine.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
