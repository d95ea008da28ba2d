"""A ledger over three shards in memory does what a naive model does, for random operations in random order."""

from collections.abc import Callable, Sequence
from typing import cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from llmactors.ledger import LedgerSettings
from llmactors.ledger.sharded import ShardLedger
from tests.support.memory_shards import MemoryShard
from tests.support.sharded_machine import SHARDS, OnShards, ShardedLimitMachine, ShardedMachine


class OnMemoryShards(OnShards):
    wall_ms: Callable[[], int]

    def make_shards(self, settings: LedgerSettings) -> Sequence[ShardLedger]:
        parts = [MemoryShard(settings, now=self.now, wall_ms=self.wall_ms) for _ in range(SHARDS)]
        return cast("list[ShardLedger]", parts)


class MemoryShardsMachine(OnMemoryShards, ShardedMachine):
    """All rules."""


class MemoryShardsLimitMachine(OnMemoryShards, ShardedLimitMachine):
    """All rules of limits."""


@pytest.fixture
def machine(pytestconfig: pytest.Config) -> settings:
    return settings(
        max_examples=max(1, pytestconfig.getoption("--machine-examples") // 2),
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


def test_shards_in_memory_and_model_agree(machine: settings) -> None:
    run_state_machine_as_test(MemoryShardsMachine, settings=machine)


def test_shards_in_memory_and_account_agree_on_limits(machine: settings) -> None:
    run_state_machine_as_test(MemoryShardsLimitMachine, settings=machine)
