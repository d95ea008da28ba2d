"""From which shards several workers claim, and in which order."""

from collections.abc import AsyncIterator
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from llmactors.ledger import LedgerSettings, News
from llmactors.ledger.sharded import ShardedLedger, ShardLedger
from llmactors.testing.ledger_suite import request
from tests.support.memory_shards import MemoryShard


def on_shard(shard: int, name: str = "a") -> str:
    return "req_" + name * 30 + f"0{shard}"


@pytest.fixture
def shards() -> list[MemoryShard]:
    settings = LedgerSettings(lease_s=60.0)
    return [
        MemoryShard(settings, now=trio.current_time, wall_ms=lambda: round(trio.current_time() * 1000))
        for _ in range(3)
    ]


@pytest.fixture
async def ledger(shards: list[MemoryShard], nursery: trio.Nursery) -> AsyncIterator[ShardedLedger]:
    made = ShardedLedger(cast("list[ShardLedger]", shards), LedgerSettings(lease_s=60.0))
    await nursery.start(made.run)
    yield made
    nursery.cancel_scope.cancel(reason="the test is over")


async def join(ledger: ShardedLedger, *workers: str) -> None:
    """Has workers join, know of each other, and listen."""
    for _ in range(2):
        for worker in workers:
            await ledger.beat(worker)
            assert await ledger.claim(worker, "m", 8) == []
            await trio.sleep(0.3)
    for worker in workers:
        with trio.move_on_after(1):  # the first waits return at once
            while True:
                await ledger.wait_work(worker, "m")
        assert await ledger.claim(worker, "m", 8) == []


async def claim_when_told(ledger: ShardedLedger, worker: str) -> tuple[float, list[str]]:
    """After how long the worker hears of work, and what it claims then."""
    began = trio.current_time()
    with trio.fail_after(2):
        while News.WORK not in await ledger.wait_work(worker, "m"):
            pass
    claims = await ledger.claim(worker, "m", 8)
    return trio.current_time() - began, [claim.request.id for claim in claims]


async def test_workers_claim_from_their_own_shards(ledger: ShardedLedger, autojump_clock: MockClock) -> None:
    await join(ledger, "a", "b", "c")
    for shard in range(3):
        await ledger.submit(request(on_shard(shard)))
    for shard, worker in enumerate("abc"):
        assert await claim_when_told(ledger, worker) == (0.0, [on_shard(shard)])


async def test_request_that_own_workers_leave_is_claimed_soon(ledger: ShardedLedger, autojump_clock: MockClock) -> None:
    await join(ledger, "a", "b", "c")
    await ledger.submit(request(on_shard(2)))
    after, claimed = await claim_when_told(ledger, "a")
    assert after == pytest.approx(0.1)
    assert claimed == [on_shard(2)]
    await ledger.submit(request(on_shard(2, "b")))
    assert await claim_when_told(ledger, "a") == (0.0, [on_shard(2, "b")])  # the others have no room there


async def test_free_slots_are_filled_from_other_shards(ledger: ShardedLedger, autojump_clock: MockClock) -> None:
    await join(ledger, "a", "b", "c")
    for name in "abcd":
        await ledger.submit(request(on_shard(2, name)))
    await ledger.submit(request(on_shard(0)))
    await trio.sleep(0.2)
    claims = await ledger.claim("a", "m", 3)
    assert [claim.request.id for claim in claims] == [on_shard(0), on_shard(2, "a"), on_shard(2, "b")]


async def test_worker_alone_claims_from_all_shards_at_once(ledger: ShardedLedger, autojump_clock: MockClock) -> None:
    await join(ledger, "a")
    await ledger.submit(request(on_shard(2)))
    assert await claim_when_told(ledger, "a") == (0.0, [on_shard(2)])


async def test_request_that_comes_during_a_claim_is_claimed(
    ledger: ShardedLedger, shards: list[MemoryShard], autojump_clock: MockClock
) -> None:
    await join(ledger, "a")
    claim = shards[1].memory.claim

    async def late(*args: object, **more: object) -> object:
        found = await claim(*args, **more)  # type: ignore[arg-type]
        await ledger.submit(request(on_shard(1)))
        await trio.sleep(0.01)
        return found

    shards[1].memory.claim = late  # type: ignore[method-assign, assignment]
    await ledger.submit(request(on_shard(0)))
    await ledger.beat("a")
    claimed = await ledger.claim("a", "m", 8)
    shards[1].memory.claim = claim  # type: ignore[method-assign]
    assert [each.request.id for each in claimed] == [on_shard(0)]
    assert await claim_when_told(ledger, "a") == (0.0, [on_shard(1)])


async def test_worker_claims_from_a_shard_that_answers_again(
    ledger: ShardedLedger, shards: list[MemoryShard], autojump_clock: MockClock
) -> None:
    await join(ledger, "a")
    shards[1].go_away(noticed=False)
    assert await ledger.reap() == 0  # notices that the shard is slow
    await shards[1].memory.submit(request(on_shard(1)))
    assert (await claim_when_told(ledger, "a"))[1] == []
    shards[1].come_back()
    assert (await claim_when_told(ledger, "a"))[1] == [on_shard(1)]
