"""A ledger over three Redis servers: `just test-shards` runs all of the contract on it."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from llmactors.config import Settings
from llmactors.errors import OperatorError
from llmactors.http.request_id import new_request_id
from llmactors.ledger import AppendEntry, Claim, News
from llmactors.ledger.redis import LEDGER_LINK, RedisLedger, RedisLedgerSettings
from llmactors.ledger.redis.functions import LedgerFunctions
from llmactors.ledger.sharded import Placement, ShardedLedger
from llmactors.system.ledger_shards import LedgerShards
from llmactors.testing.ledger_suite import SUITE_SETTINGS, LedgerSuite, Rig, finished, request, tokens
from llmactors.testing.redis_server import RedisServer
from tests.support.sharded_promises import skip_promises_of_one_shard

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
time passes, the shards hear which ended logs are read."""
PATIENCE_S = 60.0
"""So that no server counts as away where the machine is slow: the suite is about servers that answer."""
BOUNDS = attrs.evolve(SUITE_SETTINGS, tombstone_s=60.0)
"""The servers forget a tombstone by their own clocks, while the time of the ledger stands still."""


@pytest.fixture(scope="module")
def servers() -> Iterator[list[RedisServer]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(RedisServer(appendfsync="always")) for _ in range(3)]


@pytest.fixture
def three(servers: list[RedisServer]) -> Iterator[str]:
    """The URLs of three empty servers."""
    for server in servers:
        if not server.running:
            server.start()
        with server.client() as client:
            client.flushall()
    yield ",".join(server.url for server in servers)
    for server in servers:
        if not server.running:
            server.start()


class OnOneShard(Placement):
    """As for the requests of one tenant: all of them live on one of the shards."""

    def shard_of(self, request_id: str) -> int:
        return 1


@attrs.define
class Time:
    """The ledger's time, which passes only when a test says so. The time of sockets passes by itself."""

    now_ms: int = 1_750_000_000_000

    def wall_ms(self) -> int:
        return self.now_ms


@pytest.fixture(params=[Placement, OnOneShard], ids=["spread", "together"])
def place(request: pytest.FixtureRequest) -> type[Placement]:
    skip_promises_of_one_shard(request.function.__name__, together=request.param is OnOneShard)
    chosen: type[Placement] = request.param
    return chosen


@pytest.fixture
async def rig(place: type[Placement], three: str, nursery: trio.Nursery) -> AsyncIterator[Rig]:
    time = Time()
    parts = [
        RedisLedger(url, BOUNDS, QUIET, shard=(number, 3), clock_ms=time.wall_ms)
        for number, url in enumerate(three.split(","))
    ]
    for part in parts:
        await nursery.start(part.run)
    ledger = ShardedLedger(parts, BOUNDS, place, PATIENCE_S)
    await nursery.start(ledger.run)

    async def pass_time(seconds: float) -> None:
        await trio.sleep(0.01)
        for part in parts:
            part.log_reader.forget_unread(0)
            await part.log_reader.sync()
        time.now_ms += round(seconds * 1000)

    yield Rig(ledger, pass_time, time.wall_ms, BOUNDS)
    nursery.cancel_scope.cancel(reason="the test is over")


@pytest.mark.shards
class TestShardedRedisLedger(LedgerSuite):
    """All tests of the suite, unchanged."""


def shards_of(urls: str) -> LedgerShards:
    link = attrs.evolve(LEDGER_LINK, starts_without_server=True)
    return LedgerShards(Settings(redis=urls), SUITE_SETTINGS, name="test", link_settings=link)


async def test_streams_outlive_the_death_of_one_redis(
    three: str, servers: list[RedisServer], nursery: trio.Nursery, tmp_path: Path
) -> None:
    """The requests of the other servers go on while one is dead, and its own when it is back."""
    shards = shards_of(three)
    ledger, placement = shards.whole, shards.placement
    assert placement is not None
    await nursery.start(shards.run)
    ids = [placement.moved(new_request_id(), shard) for shard in range(3)]
    for each in ids:
        await ledger.submit(request(each))
    await ledger.beat("w#1")
    claims = {placement.shard_of(claim.request.id): claim for claim in await ledger.claim("w#1", "m", 3)}
    assert set(claims) == {0, 1, 2}

    async def write(claim: Claim, first: int, last: int, *, ends: bool = False) -> None:
        entry = AppendEntry(claim.request.id, claim.epoch, first, tokens(first, last), finished(last) if ends else None)
        await ledger.append([entry])

    for claim in claims.values():
        await write(claim, 1, 2)
    await trio.to_thread.run_sync(servers[1].kill)
    with trio.fail_after(5):  # nothing waits for the dead server
        for claim in claims.values():
            await write(claim, 3, 4, ends=True)
        assert (await ledger.read(ids[0])).end == (await ledger.read(ids[2])).end == finished(4)
        free = [placement.shard_of(*placement.place([new_request_id()], "t", at_home=False)) for _ in range(20)]
        assert 1 not in free
    await trio.to_thread.run_sync(servers[1].start)
    with trio.fail_after(20):
        follower = await ledger.follow(ids[1])
        with follower:
            await follower.wait_end()
            log = follower.take()
    assert (list(log.deltas), log.end) == (list(tokens(1, 4)), finished(4))
    nursery.cancel_scope.cancel(reason="the test is over")


async def test_first_token_follows_two_calls_on_any_server(
    three: str, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waiting worker is handed the request by the call that admits the request, wherever the request lives."""
    shards = shards_of(three)
    ledger, placement = shards.whole, shards.placement
    assert placement is not None
    await nursery.start(shards.run)
    await ledger.beat("w#1")
    with trio.move_on_after(0.1):
        while True:
            await ledger.wait_work("w#1", "m")  # the first waits return at once
    assert await ledger.claim("w#1", "m", 6, hand_out=6) == []
    assert ledger.has_open_slots("w#1", "m")
    called: list[str] = []
    call = LedgerFunctions.call

    async def noted(functions: LedgerFunctions, operation: str, *parts: Any) -> Any:
        called.append(operation)
        return await call(functions, operation, *parts)

    monkeypatch.setattr(LedgerFunctions, "call", noted)
    for shard in (0, 1, 2, 0, 1, 2):
        request_id = placement.moved(new_request_id(), shard)
        called.clear()
        await ledger.submit(request(request_id))
        with trio.fail_after(5):
            while not (handed := ledger.handed("w#1", "m")):
                assert News.HANDED in await ledger.wait_work("w#1", "m")
        [claim] = handed
        await ledger.append([AppendEntry(request_id, claim.epoch, 1, tokens(1, 1))])
        assert [each for each in called if each in {"submit", "claim", "append"}] == ["submit", "append"]
    await ledger.submit(request(placement.moved(new_request_id(), 1)))
    await ledger.now_ms()
    assert ledger.handed("w#1", "m") == []  # all six slots are taken
    assert not ledger.has_open_slots("w#1", "m")
    nursery.cancel_scope.cancel(reason="the test is over")


async def test_slots_open_on_one_server_are_filled_from_others(three: str, nursery: trio.Nursery) -> None:
    shards = shards_of(three)
    ledger, placement = shards.whole, shards.placement
    assert placement is not None
    await nursery.start(shards.run)
    await ledger.beat("w#1")
    with trio.move_on_after(0.1):
        while True:
            await ledger.wait_work("w#1", "m")
    assert await ledger.claim("w#1", "m", 4, hand_out=3) == []
    for _ in range(5):
        await ledger.submit(request(placement.moved(new_request_id(), 2)))
    claims = await ledger.claim("w#1", "m", 4, hand_out=3)
    assert len(claims) == 4
    assert not ledger.has_open_slots("w#1", "m")
    assert await ledger.claim("w#1", "m", 0) == []
    for shard in range(2):
        await ledger.submit(request(placement.moved(new_request_id(), shard)))
        await shards.whole.queue_depths()
    assert ledger.handed("w#1", "m") == []
    nursery.cancel_scope.cancel(reason="the test is over")


async def test_other_order_of_servers_is_refused_until_drained(three: str, nursery: trio.Nursery) -> None:
    shards = shards_of(three)
    await nursery.start(shards.run)
    assert shards.placement is not None
    held = shards.placement.moved(new_request_id(), 0)
    await shards.whole.submit(request(held))
    turned = shards_of(",".join(reversed(three.split(","))))
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as other:
            await other.start(turned.run)
    found: BaseException = caught.value
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, OperatorError)
    assert "open requests as shard" in found.message
    await shards.whole.cancel(held)
    async with trio.open_nursery() as other:
        await other.start(turned.run)
        other.cancel_scope.cancel(reason="it was accepted")
    nursery.cancel_scope.cancel(reason="the test is over")
