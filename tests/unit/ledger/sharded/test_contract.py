"""A ledger over three ledgers in memory keeps the contract: `just test-shards` runs all of it, `pytest` a part."""

from collections.abc import AsyncIterator
from typing import cast

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from llmactors.ledger.sharded import Placement, ShardedLedger, ShardLedger
from llmactors.testing.ledger_suite import SUITE_SETTINGS, LedgerSuite, Rig
from llmactors.testing.ledger_suite.logging import EndSuite
from llmactors.testing.ledger_suite.usage import UsageSuite
from llmactors.testing.ledger_suite.working import LeaseSuite
from tests.support.memory_shards import MemoryShard
from tests.support.sharded_promises import skip_promises_of_one_shard


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


class OnOneShard(Placement):
    """As for the requests of one tenant: all of them live on one of the shards."""

    def shard_of(self, request_id: str) -> int:
        return 1


@pytest.fixture(params=[Placement, OnOneShard], ids=["spread", "together"])
def place(request: pytest.FixtureRequest) -> type[Placement]:
    skip_promises_of_one_shard(request.function.__name__, together=request.param is OnOneShard)
    chosen: type[Placement] = request.param
    return chosen


@pytest.fixture
async def rig(place: type[Placement], nursery: trio.Nursery) -> AsyncIterator[Rig]:
    time = Time()
    shards = [MemoryShard(SUITE_SETTINGS, now=time.now, wall_ms=time.wall_ms) for _ in range(3)]
    ledger = ShardedLedger(cast("list[ShardLedger]", shards), SUITE_SETTINGS, place)
    await nursery.start(ledger.run)
    yield Rig(ledger, time.pass_time, time.wall_ms)
    nursery.cancel_scope.cancel(reason="the test is over")


class TestShardedLedger(EndSuite, LeaseSuite, UsageSuite):
    """A part of the suite, unchanged."""


@pytest.mark.shards
class TestWholeContract(LedgerSuite):
    """All tests of the suite, unchanged."""
