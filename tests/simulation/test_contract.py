"""The ledger keeps its contract over the simulated network, whose time is virtual, as it does on real sockets.

So what a simulation shows is what the ledger does: the bytes of the link pass through the network and the store of the
simulation here, and nothing else stands between the ledger and its server. The ledger's own time passes where a test
says so, since the suite asks for exact times.
"""

import math
import os
import random
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, ClassVar, TypeVar

import attrs
import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from trio.testing import MockClock

import llmactors.redislink.link
from llmactors.ledger import Ledger, LedgerSettings, MemoryLedger
from llmactors.ledger.redis import RedisLedger
from llmactors.testing.ledger_suite import SUITE_SETTINGS, LedgerSuite, Rig
from llmactors.testing.side_by_side import side_by_side
from llmactors.testing.trio_thread import TrioThread
from tests.integration.ledger.test_redis_contract import QUIET, Time
from tests.integration.ledger.test_redis_machine import QUIET as QUIET_MACHINE
from tests.integration.ledger.test_redis_machine import RedisMachine
from tests.simulation.contract import EXAMPLES
from tests.simulation.expiry import EXPIRIES, NOW
from tests.simulation.network import Network, dialer
from tests.simulation.store import Store

pytestmark = pytest.mark.integration

T = TypeVar("T")
URL = "redis://simulation"
SETTINGS = attrs.evolve(SUITE_SETTINGS, tombstone_s=60.0)
"""Tombstones that outlive a test: their time to live counts in the network's time, in which each call takes a while."""


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with Store() as running:
        yield running


@pytest.fixture
async def rig(
    store: Store, nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Rig]:
    store.clear()
    network = Network(store, random.Random(1))
    monkeypatch.setattr(llmactors.redislink.link, "dial", dialer(network))
    await nursery.start(network.run)
    time = Time()
    ledger = RedisLedger(URL, SETTINGS, QUIET, clock_ms=time.wall_ms)
    await nursery.start(ledger.run)

    async def pass_time(seconds: float) -> None:
        await trio.sleep(0.01)
        ledger.log_reader.forget_unread(0)
        await ledger.log_reader.sync()
        time.now_ms += round(seconds * 1000)

    yield Rig(ledger, pass_time, time.wall_ms, SETTINGS)
    assert network.commands > 1
    network.cut_all(network.servers[0])
    nursery.cancel_scope.cancel(reason="the test is over")


class TestSimulatedRedisLedger(LedgerSuite):
    """All tests of the suite, unchanged."""


class VirtualThread(TrioThread):
    """An event loop whose time passes only while a coroutine of the test runs."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._clock = MockClock()
        super().__init__(self._clock)

    def __exit__(self, *exc: object) -> None:
        async def cut() -> None:
            self._network.cut_all(self._network.servers[0])

        self.run(cut())
        super().__exit__(*exc)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        async def jumping() -> T:
            self._clock.autojump_threshold = 0
            try:
                return await coroutine
            finally:
                self._clock.autojump_threshold = math.inf

        return super().run(jumping())


class SimulatedMachine(RedisMachine):
    """The state machine, whose ledger's time is that of the machine."""

    store: ClassVar[Store]
    patch: ClassVar[pytest.MonkeyPatch]

    def make_ledger(self, settings: LedgerSettings) -> Ledger:
        self.store.clear()
        network = Network(self.store, random.Random(1))
        self.thread = VirtualThread(network)
        self.thread.__enter__()
        self.patch.setattr(llmactors.redislink.link, "dial", dialer(network))
        self.thread.serve(network.run)
        self.redis = RedisLedger(URL, settings, QUIET_MACHINE, clock_ms=self.wall_ms)
        self.thread.serve(self.redis.run)
        return side_by_side(self.redis, MemoryLedger(settings, now=self.now, wall_ms=self.wall_ms))

    def check_empty(self) -> None:
        self.store.client.delete(NOW, EXPIRIES)
        super().check_empty()


MACHINE = settings(
    max_examples=int(os.environ.get(EXAMPLES, "2")),
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_simulated_redis_memory_and_model_agree(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    SimulatedMachine.store, SimulatedMachine.patch = store, monkeypatch
    SimulatedMachine.server = store.server
    run_state_machine_as_test(SimulatedMachine, settings=MACHINE)
