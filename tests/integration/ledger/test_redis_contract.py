"""The ledger in Redis keeps the contract, on each kind of server that this machine has."""

from collections.abc import AsyncIterator

import attrs
import pytest
import trio

from llmactors.ledger.redis import RedisLedger, RedisLedgerSettings
from llmactors.testing.ledger_suite import SUITE_SETTINGS, LedgerSuite, Rig
from llmactors.testing.redis_server import RedisServer

pytestmark = pytest.mark.integration

QUIET = RedisLedgerSettings(
    outage_s=1e6,
    gateway_lease_s=60.0,
    look_for_work_s=5.0,
    disconnect_grace_s=1e6,
    call_timeout_s=60.0,
    still_read_s=0.0,
)
"""Time jumps in these tests, which must not count as an outage. Workers look for work only when they are woken. Before
time passes, the ledger hears which ended logs are read."""

BOUNDS = attrs.evolve(SUITE_SETTINGS, tombstone_s=60.0)
"""The server forgets a tombstone by its own clock, while the time of the ledger stands still."""


@attrs.define
class Time:
    """The ledger's time, which passes only when a test says so. The time of sockets passes by itself."""

    now_ms: int = 1_750_000_000_000

    def wall_ms(self) -> int:
        return self.now_ms


@pytest.fixture
async def rig(any_server: RedisServer, nursery: trio.Nursery) -> AsyncIterator[Rig]:
    client = any_server.client()
    client.flushall()
    client.close()
    time = Time()
    ledger = RedisLedger(any_server.url, BOUNDS, QUIET, clock_ms=time.wall_ms)
    await nursery.start(ledger.run)

    async def pass_time(seconds: float) -> None:
        await trio.sleep(0.01)
        ledger.log_reader.forget_unread(0)
        await ledger.log_reader.sync()
        time.now_ms += round(seconds * 1000)

    yield Rig(ledger, pass_time, time.wall_ms, BOUNDS)
    nursery.cancel_scope.cancel(reason="the test is over")


class TestRedisLedger(LedgerSuite):
    """All tests of the suite, unchanged."""
