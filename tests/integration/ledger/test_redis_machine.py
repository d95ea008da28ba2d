"""The ledger in Redis does what the naive model and the ledger in memory do, for random operations.

Each run of the tests draws other operations; `just test-random` tries more of them.
"""

import contextlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, ClassVar, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from llmactors.ledger import Ledger, LedgerSettings, MemoryLedger
from llmactors.ledger.redis import RedisLedger, RedisLedgerSettings
from llmactors.ledger.sharded import ShardLedger
from llmactors.redislink.names import LedgerKey
from llmactors.testing.ledger_suite.handing_out_machine import HandingOutMachine
from llmactors.testing.ledger_suite.limit_machine import LimitMachine
from llmactors.testing.ledger_suite.machine import LedgerMachine
from llmactors.testing.redis_server import RedisServer
from llmactors.testing.side_by_side import side_by_side
from llmactors.testing.trio_thread import TrioThread
from tests.support.ledger_keys import ledger_key_of
from tests.support.sharded_machine import SHARDS, OnShards, ShardedLimitMachine, ShardedMachine, ShardedRules

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

T = TypeVar("T")

LEFT = {
    LedgerKey.CONVERSATIONS,
    LedgerKey.COUNTERS,
    LedgerKey.DEAD_LETTERS,
    LedgerKey.DEAD_WORKERS,
    LedgerKey.GATEWAYS,
    LedgerKey.GONE,
    LedgerKey.LIVE,
    LedgerKey.LOST,
    LedgerKey.USAGE_RECORDS,
    LedgerKey.USAGE_SUMS,
    LedgerKey.WORKER,
}
"""Keys that may be left once no request is."""

QUIET = RedisLedgerSettings(
    outage_s=1e6, gateway_lease_s=1e5, silence_s=3600.0, disconnect_grace_s=1e6, call_timeout_s=60.0, still_read_s=0.0
)
"""Time jumps in these tests, which must not count as an outage. The machine says when a log is read again, and when
Redis hears which ended logs are read."""


class OnRedis:
    """Has a machine drive a ledger in Redis, compared with a ledger in memory."""

    server: ClassVar[RedisServer]
    now: Callable[[], float]
    wall_ms: Callable[[], int]

    def make_ledger(self, settings: LedgerSettings) -> Ledger:
        with self.server.client() as client:
            client.flushall()
        self.thread = TrioThread()
        self.thread.__enter__()
        self.redis = RedisLedger(self.server.url, settings, QUIET, clock_ms=self.wall_ms)
        self.thread.serve(self.redis.run)
        return side_by_side(self.redis, MemoryLedger(settings, now=self.now, wall_ms=self.wall_ms))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.thread.run(coroutine)

    def do(self, action: Callable[[], object]) -> None:
        async def act() -> None:
            action()

        self.run(act())

    def settle(self) -> None:
        self.run(self._settle())

    async def _settle(self) -> None:
        self.redis.log_reader.forget_unread(0)
        await self.redis.log_reader.sync()

    def teardown(self) -> None:
        try:
            super().teardown()  # type: ignore[misc]
        finally:
            self.thread.__exit__()


class RedisMachine(OnRedis, LedgerMachine):
    def check_empty(self) -> None:
        """All keys that are left belong to no request, and have a time to live."""
        with self.server.client() as client:
            names = self.redis.names
            assert {ledger_key_of(names, name) for name in client.scan_iter()} <= LEFT
            assert all(client.ttl(name) > 0 for name in client.scan_iter())
            live = names.ledger(LedgerKey.LIVE, "*")
            assert all(client.hkeys(name) == [b""] for name in client.scan_iter(live))


class RedisHandingOutMachine(OnRedis, HandingOutMachine):
    def make_ledger(self, settings: LedgerSettings) -> Ledger:
        super().make_ledger(settings)
        return self.redis  # the ledger in memory hands out nothing


class RedisLimitMachine(OnRedis, LimitMachine):
    def teardown(self) -> None:
        super().teardown()
        with self.server.client() as client:
            names = self.redis.names
            requests, limits = names.ledger(LedgerKey.REQUEST, "*"), names.ledger(LedgerKey.LIMIT, "*")
            assert not list(client.scan_iter(names.ledger(LedgerKey.LIMIT, "open:*")))
            assert not [name for name in client.scan_iter(requests) if client.hexists(name, "ch")]
            assert all(client.ttl(name) > 0 for name in client.scan_iter(limits))


class ComparedShard:
    """A ledger in Redis as a shard, compared with a ledger in memory, so that the order on each shard is compared."""

    def __init__(self, redis: RedisLedger, memory: MemoryLedger) -> None:
        self._redis = redis
        self._both = side_by_side(redis, memory)
        self.wait_up = redis.wait_up
        self.queue_view = redis.queue_view
        self.handed, self.has_open_slots = redis.handed, redis.has_open_slots

    @property
    def is_up(self) -> bool:
        return self._redis.is_up

    def __getattr__(self, operation: str) -> Any:
        return getattr(self._both, operation)


class OnRedisShards(OnShards):
    """Has a machine drive a ledger over several servers."""

    servers: ClassVar[Sequence[RedisServer]]
    wall_ms: Callable[[], int]
    clock_follows = False  # what is said over sockets takes no time of the event loop
    compares = True
    """Whether each shard is compared with a ledger in memory."""

    def make_shards(self, settings: LedgerSettings) -> list[ShardLedger]:
        self.parts: list[RedisLedger] = []
        for number, server in enumerate(self.servers):
            with server.client() as client:
                client.flushall()
            shard = number, len(self.servers)
            self.parts.append(RedisLedger(server.url, settings, QUIET, shard=shard, clock_ms=self.wall_ms))
            self.thread.serve(self.parts[-1].run)
        if not self.compares:
            return cast("list[ShardLedger]", self.parts)
        memory = (MemoryLedger(settings, now=self.now, wall_ms=self.wall_ms) for _ in self.servers)
        compared = [ComparedShard(*both) for both in zip(self.parts, memory, strict=True)]
        return cast("list[ShardLedger]", compared)

    def settle(self) -> None:
        self.run(self._settle())

    async def _settle(self) -> None:
        for part in self.parts:
            part.log_reader.forget_unread(0)
            await part.log_reader.sync()


class RedisShardsMachine(OnRedisShards, ShardedMachine):
    def check_empty(self) -> None:
        """As on one server. A server that was asked for nothing has its mark, and counters, for ever."""
        for part, server in zip(self.parts, self.servers, strict=True):
            with server.client() as client:
                lasting = {name for name in client.scan_iter() if client.ttl(name) < 0}
                left = {ledger_key_of(part.names, name) for name in set(client.scan_iter()) - lasting}
            assert left <= LEFT | {LedgerKey.CLAIMERS}
            counters = part.names.ledger(LedgerKey.COUNTERS)
            assert lasting <= {part.names.shard.encode(), counters.encode()}


class RedisShardsHandingOutMachine(OnRedisShards, ShardedRules, HandingOutMachine):
    """Workers leave slots open, on one shard or several."""

    compares = False  # the ledger in memory hands out nothing

    def follow_handed(self) -> None:
        self.run(self.ledger.queue_depths())  # all servers have answered, so all messages before have been read
        HandingOutMachine.follow_handed(self)
        self.follow_handed_back()


class RedisShardsLimitMachine(OnRedisShards, ShardedLimitMachine):
    """All rules of limits."""


@pytest.fixture(scope="module")
def three_servers() -> Iterator[list[RedisServer]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(RedisServer()) for _ in range(SHARDS)]


@pytest.fixture(scope="module")
def machine(pytestconfig: pytest.Config) -> settings:
    return settings(
        max_examples=pytestconfig.getoption("--machine-examples"),
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


def test_redis_memory_and_model_agree(any_server: RedisServer, machine: settings) -> None:
    RedisMachine.server = any_server
    run_state_machine_as_test(RedisMachine, settings=machine)


def test_redis_and_model_agree_on_what_is_handed_out(any_server: RedisServer, machine: settings) -> None:
    RedisHandingOutMachine.server = any_server
    run_state_machine_as_test(RedisHandingOutMachine, settings=machine)


def test_redis_memory_and_account_agree_on_limits(any_server: RedisServer, machine: settings) -> None:
    RedisLimitMachine.server = any_server
    run_state_machine_as_test(RedisLimitMachine, settings=machine)


def test_redis_shards_and_model_agree(three_servers: list[RedisServer], machine: settings) -> None:
    RedisShardsMachine.servers = three_servers
    run_state_machine_as_test(RedisShardsMachine, settings=few_of(machine))


def test_redis_shards_and_model_agree_on_what_is_handed_out(
    three_servers: list[RedisServer], machine: settings
) -> None:
    RedisShardsHandingOutMachine.servers = three_servers
    run_state_machine_as_test(RedisShardsHandingOutMachine, settings=few_of(machine))


def test_redis_shards_and_account_agree_on_limits(three_servers: list[RedisServer], machine: settings) -> None:
    RedisShardsLimitMachine.servers = three_servers
    run_state_machine_as_test(RedisShardsLimitMachine, settings=few_of(machine))


def few_of(machine: settings) -> settings:
    """A quarter of the examples: each operation asks three servers, and the shards in memory have more of them."""
    return settings(machine, max_examples=max(1, machine.max_examples // 4))
