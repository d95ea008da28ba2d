"""What happens while a shard is away, and when it is back."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import attrs
import pytest
import trio
from trio.testing import MockClock

from llmactors.errors import NotFound, Unavailable
from llmactors.ledger import (
    AppendEntry,
    AppendOutcome,
    Candidate,
    Claim,
    LedgerSettings,
    News,
    ReleaseHow,
    SlotOffer,
    SubmitOutcome,
)
from llmactors.ledger.sharded import ShardedLedger, ShardLedger
from llmactors.ledger.usage import UsageBy
from llmactors.testing.ledger_suite import finished, request, tokens
from tests.support.memory_shards import MemoryShard

IDS = {0: "req_" + "a" * 30 + "00", 1: "req_" + "a" * 30 + "01", 2: "req_" + "a" * 30 + "02"}
"""An id on each of three shards."""


@attrs.frozen
class Three:
    ledger: ShardedLedger
    shards: list[MemoryShard]

    async def start(self, worker: str = "w", slots: int = 3) -> dict[int, Claim]:
        """Has a request on each shard run at one worker."""
        await self.ledger.beat(worker)
        for each in IDS.values():
            await self.ledger.submit(request(each))
        claims = await self.ledger.claim(worker, "m", slots)
        return {self.ledger.placement.shard_of(claim.request.id): claim for claim in claims}

    async def write(self, claim: Claim, first: int, last: int, *, ends: bool = False) -> AppendOutcome:
        end = finished(last) if ends else None
        entry = AppendEntry(claim.request.id, claim.epoch, first, tokens(first, last), end)
        [result] = await self.ledger.append([entry])
        return result.outcome


def three_shards() -> Three:
    settings = LedgerSettings(lease_s=5.0, preempt_after_s=0.5)
    shards = [
        MemoryShard(settings, now=trio.current_time, wall_ms=lambda: round(trio.current_time() * 1000))
        for _ in range(3)
    ]
    return Three(ShardedLedger(cast("list[ShardLedger]", shards), settings), shards)


@pytest.fixture
async def three(nursery: trio.Nursery) -> AsyncIterator[Three]:
    found = three_shards()
    await nursery.start(found.ledger.run)
    yield found
    nursery.cancel_scope.cancel(reason="the test is over")


async def test_worker_claims_from_all_shards(three: Three, autojump_clock: MockClock) -> None:
    assert set(await three.start()) == {0, 1, 2}


async def test_claim_with_few_slots_leaves_no_shard_out(three: Three, autojump_clock: MockClock) -> None:
    await three.ledger.beat("w")
    for each in IDS.values():
        await three.ledger.submit(request(each))
    one_by_one = [claim.request.id for _ in range(3) for claim in await three.ledger.claim("w", "m", 1)]
    assert sorted(one_by_one) == sorted(IDS.values())


async def test_claims_go_on_without_a_shard(three: Three, autojump_clock: MockClock) -> None:
    three.shards[1].go_away(noticed=False)
    await three.ledger.beat("w")
    for shard in (0, 2):
        await three.ledger.submit(request(IDS[shard]))
    assert len(await three.ledger.claim("w", "m", 3)) == 2
    began = trio.current_time()
    await three.ledger.submit(request("req_" + "b" * 30 + "00"))
    assert len(await three.ledger.claim("w", "m", 3)) == 1
    assert trio.current_time() == began  # nothing asks the shard again until it answers


async def test_tokens_of_other_shards_do_not_wait(three: Three, autojump_clock: MockClock) -> None:
    claims = await three.start()
    three.shards[1].go_away()
    began = trio.current_time()
    entries = [AppendEntry(claim.request.id, claim.epoch, 1, tokens(1, 2)) for claim in claims.values()]
    assert {result.outcome for result in await three.ledger.append(entries)} == {AppendOutcome.OK}
    assert trio.current_time() == began
    assert len((await three.ledger.read(IDS[0])).deltas) == 2
    with pytest.raises(Unavailable):
        await three.ledger.read(IDS[1])


async def test_kept_tokens_are_written_in_order_when_it_is_back(three: Three, autojump_clock: MockClock) -> None:
    claims = await three.start()
    three.shards[1].go_away()
    assert await three.write(claims[1], 1, 2) is AppendOutcome.OK
    assert await three.write(claims[1], 3, 5) is AppendOutcome.OK
    three.shards[1].come_back()
    assert await three.write(claims[1], 6, 6, ends=True) is AppendOutcome.OK  # behind those that are not written yet
    await trio.sleep(0.1)
    log = await three.ledger.read(IDS[1])
    assert (list(log.deltas), log.end) == (list(tokens(1, 6)), finished(6))


async def test_frozen_shard_costs_one_wait(three: Three, autojump_clock: MockClock) -> None:
    claims = await three.start()
    three.shards[1].go_away(noticed=False)
    began = trio.current_time()
    await three.write(claims[1], 1, 1)
    first = trio.current_time() - began
    await three.write(claims[1], 2, 2)
    assert 0 < first == trio.current_time() - began
    three.shards[1].come_back()
    await trio.sleep(0.1)
    assert await three.write(claims[1], 3, 3) is AppendOutcome.OK
    assert len((await three.ledger.read(IDS[1])).deltas) == 3


async def test_worker_hears_that_kept_tokens_were_not_wanted(three: Three, autojump_clock: MockClock) -> None:
    claims = await three.start()
    three.shards[1].go_away()
    await three.write(claims[1], 1, 2)
    await three.shards[1].memory.release(IDS[1], claims[1].epoch, ReleaseHow.SILENT)
    three.shards[1].come_back()
    await trio.sleep(0.1)
    assert (IDS[1], claims[1].epoch) in (await three.ledger.beat("w")).stop
    assert await three.write(claims[0], 1, 1) is AppendOutcome.OK


async def test_lease_lost_on_one_shard_costs_only_its_requests(three: Three, autojump_clock: MockClock) -> None:
    claims = await three.start()
    await three.shards[1].memory.leave("w")  # as after a cut of one connection
    beat = await three.ledger.beat("w")
    assert beat.live
    assert beat.stop == ((IDS[1], claims[1].epoch),)
    assert await three.write(claims[0], 1, 1) is AppendOutcome.OK
    [again] = await three.ledger.claim("w", "m", 3)
    assert again.request.id == IDS[1]
    assert await three.write(again, 1, 1) is AppendOutcome.OK


@attrs.frozen
class Slow:
    """Has the answers of one operation of a shard wait for `answers`, though the shard has done the operation."""

    answers: trio.Event = attrs.field(factory=trio.Event)

    def __call__(self, operation: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def slow(*args: object, **options: object) -> object:
            found = await operation(*args, **options)
            await self.answers.wait()
            return found

        return slow


async def test_swap_whose_answer_comes_late_is_made(three: Three, autojump_clock: MockClock) -> None:
    await three.ledger.beat("w")
    await three.ledger.submit(request(IDS[1], priority=2))
    [given] = await three.ledger.claim("w", "m", 1)
    urgent = "req_" + "b" * 30 + "01"
    await three.ledger.submit(request(urgent, priority=0))
    await trio.sleep(1.0)
    slow, memory = Slow(), three.shards[1].memory
    memory.preempt = slow(memory.preempt)  # type: ignore[method-assign, assignment]
    await three.ledger.wait_work("w", "m")
    offer = SlotOffer(IDS[1], given.epoch, 0)
    assert await three.ledger.preempt("w", "m", [offer]) is None
    assert (await three.ledger.beat("w")).stop == ()
    slow.answers.set()
    with trio.fail_after(5):
        while News.STOP not in await three.ledger.wait_work("w", "m"):
            pass
    assert (await three.ledger.beat("w")).stop == ((IDS[1], given.epoch),)  # it may make no token that would be refused
    assert [claim.request.id for claim in await three.ledger.claim("w", "m", 1)] == [urgent]


async def test_late_claim_of_a_lost_lease_is_not_begun(three: Three, autojump_clock: MockClock) -> None:
    await three.ledger.beat("w")
    await three.ledger.submit(request(IDS[1]))
    slow, memory = Slow(), three.shards[1].memory
    quick, memory.claim = memory.claim, slow(memory.claim)  # type: ignore[method-assign, assignment]
    assert await three.ledger.claim("w", "m", 1) == []
    memory.claim = quick  # type: ignore[method-assign]
    slow.answers.set()
    await trio.sleep(0.1)
    await memory.leave("w")
    assert (await three.ledger.beat("w")).live
    [claim] = await three.ledger.claim("w", "m", 1)
    assert await three.write(claim, 1, 1) is AppendOutcome.OK


async def test_slow_shard_is_asked_again_after_a_restart(autojump_clock: MockClock) -> None:
    """The actor that runs the ledger may crash while a shard is slow. The shard must not count as away for ever."""
    three = three_shards()
    async with trio.open_nursery() as nursery:
        await nursery.start(three.ledger.run)
        await three.ledger.beat("w")
        three.shards[1].go_away(noticed=False)
        await three.ledger.submit(request(IDS[0]))
        assert len(await three.ledger.claim("w", "m", 3)) == 1
        nursery.cancel_scope.cancel(reason="the ledger's actor crashes")
    async with trio.open_nursery() as nursery:
        await nursery.start(three.ledger.run)
        three.shards[1].come_back()
        await trio.sleep(0.1)
        await three.ledger.submit(request(IDS[1]))
        assert [claim.request.id for claim in await three.ledger.claim("w", "m", 3)] == [IDS[1]]
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_kept_end_is_told_after_a_restart(autojump_clock: MockClock) -> None:
    """The actor that runs the ledger may crash while a shard is yet to be told how a request ended."""
    three = three_shards()
    async with trio.open_nursery() as nursery:
        await nursery.start(three.ledger.run)
        claims = await three.start()
        three.shards[1].go_away()
        assert await three.write(claims[1], 1, 2, ends=True) is AppendOutcome.OK
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel(reason="the ledger's actor crashes")
    async with trio.open_nursery() as nursery:
        await nursery.start(three.ledger.run)
        three.shards[1].come_back()
        await trio.sleep(0.1)
        assert (await three.ledger.read(IDS[1])).end == finished(2)
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_news_and_claims_outlive_a_restart(autojump_clock: MockClock) -> None:
    """The actor that runs the ledger may crash while a shard is asked for a claim, and while workers listen."""
    three = three_shards()
    memory = three.shards[1].memory
    quick = memory.claim

    async def never(*_: object, **__: object) -> Any:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(three.ledger.run)
        await three.ledger.beat("w")
        await three.ledger.wait_work("w", "m")
        assert await three.ledger.claim("w", "m", 3) == []
        memory.claim = never  # type: ignore[method-assign]
        with trio.move_on_after(0.1):
            await three.ledger.submit(request(IDS[1]))
            await three.ledger.wait_work("w", "m")
            await three.ledger.claim("w", "m", 3)
        nursery.cancel_scope.cancel(reason="the ledger's actor crashes")
    memory.claim = quick  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        await nursery.start(three.ledger.run)
        [claim] = await three.ledger.claim("w", "m", 2)
        assert claim.request.id == IDS[1]
        await three.ledger.submit(request(IDS[2]))
        with trio.fail_after(1):
            found: list[Claim] = []
            while not found:
                await three.ledger.wait_work("w", "m")
                found = await three.ledger.claim("w", "m", 1)
        assert found[0].request.id == IDS[2]
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_slots_are_divided_among_shards(three: Three, autojump_clock: MockClock) -> None:
    """No shard is asked for the slots that another one is to fill: the worker would have to hand requests back."""
    ids = ["req_" + name * 30 + f"0{shard}" for name in "abc" for shard in range(3)]
    for each in ids:
        await three.ledger.submit(request(each))
    await three.ledger.beat("w")
    assert len(await three.ledger.claim("w", "m", 4)) == 4
    assert sorted([(await three.ledger.info(each)).epoch > 0 for each in ids]) == [False] * 5 + [True] * 4


async def test_kept_release_is_told_when_it_is_back(three: Three, autojump_clock: MockClock) -> None:
    claims = await three.start()
    three.shards[1].go_away()
    released = await three.ledger.release(IDS[1], claims[1].epoch, ReleaseHow.SILENT)
    assert released.outcome is AppendOutcome.OK
    three.shards[1].come_back()
    await trio.sleep(0.1)
    assert (await three.ledger.info(IDS[1])).state == "queued"


async def test_worker_leaves_all_shards(three: Three, autojump_clock: MockClock) -> None:
    await three.start()
    await three.ledger.leave("w")
    assert [(await three.ledger.info(each)).state for each in IDS.values()] == ["queued"] * 3


async def test_reaper_reaps_all_shards(three: Three, autojump_clock: MockClock) -> None:
    await three.start()
    await trio.sleep(5.1)
    assert await three.ledger.reap() == 3
    assert [(await three.ledger.info(each)).state for each in IDS.values()] == ["queued"] * 3


async def test_worker_claims_once_kept_ends_are_told(three: Three, autojump_clock: MockClock) -> None:
    claims = await three.start()
    append, told = three.shards[1].memory.append, trio.Event()

    async def append_later(*args: Any) -> Any:
        await told.wait()
        return await append(*args)

    three.shards[1].memory.append = append_later  # type: ignore[method-assign, assignment]
    three.shards[1].go_away()
    assert await three.write(claims[1], 1, 2, ends=True) is AppendOutcome.OK
    another = "req_" + "b" * 30 + "01"
    await three.shards[1].memory.submit(request(another))
    await three.ledger.wait_work("w", "m")
    await trio.sleep(1.0)
    assert await three.ledger.claim("w", "m", 1) == []
    three.shards[1].come_back()
    await three.ledger.beat("w")
    assert await three.ledger.claim("w", "m", 1) == []  # for the shard, the worker still has the request that has ended
    told.set()
    found: list[Claim] = []
    with trio.fail_after(5):
        while not found:
            await three.ledger.wait_work("w", "m")
            found = await three.ledger.claim("w", "m", 1)
    assert [claim.request.id for claim in found] == [another]


async def test_shard_is_not_asked_twice_at_once(three: Three, autojump_clock: MockClock) -> None:
    """Two claims for the same free slots would give the worker twice as many requests as it has room for."""
    await three.ledger.beat("w")
    await three.ledger.wait_work("w", "m")
    slow, memory = Slow(), three.shards[1].memory
    quick, memory.claim = memory.claim, slow(memory.claim)  # type: ignore[method-assign, assignment]
    for each in "abcd":
        await three.ledger.submit(request("req_" + each * 30 + "01"))
    assert await three.ledger.claim("w", "m", 2) == []
    memory.claim = quick  # type: ignore[method-assign]
    await trio.sleep(1.0)  # the shard answers other calls
    assert await three.ledger.claim("w", "m", 2) == []
    assert (await three.ledger.statistics()).running == 1
    slow.answers.set()
    await trio.sleep(0.1)
    assert len(await three.ledger.claim("w", "m", 2)) == 2
    assert (await three.ledger.statistics()).running == 2


async def test_lease_lost_on_all_shards_is_lost(three: Three, autojump_clock: MockClock) -> None:
    await three.start()
    for shard in three.shards:
        await shard.memory.leave("w")
    assert not (await three.ledger.beat("w")).live


async def test_beat_waits_only_while_all_are_away(three: Three, autojump_clock: MockClock) -> None:
    for shard in three.shards[:2]:
        shard.go_away()
    assert (await three.ledger.beat("w")).live
    three.shards[2].go_away()
    with trio.move_on_after(10) as waited:
        await three.ledger.beat("w")
    assert waited.cancelled_caught


async def test_suspect_waits_for_a_worker_that_is_empty(three: Three, autojump_clock: MockClock) -> None:
    await three.ledger.submit(request(IDS[1]))
    for number in range(2):
        await three.ledger.beat(f"crashed {number}")
        assert await three.ledger.claim(f"crashed {number}", "m", 1)
        await three.ledger.leave(f"crashed {number}")
    await three.ledger.beat("w")
    await three.ledger.submit(request(IDS[0]))
    [first] = await three.ledger.claim("w", "m", 2)
    assert not first.quarantined
    assert await three.ledger.claim("w", "m", 1) == []  # not even another request: it is to become empty
    await three.ledger.submit(request(IDS[2]))
    assert await three.ledger.claim("w", "m", 1) == []
    await three.write(first, 1, 1, ends=True)
    [suspect] = await three.ledger.claim("w", "m", 2)
    assert (suspect.request.id, suspect.quarantined, suspect.attempt) == (IDS[1], True, 3)
    assert await three.ledger.claim("w", "m", 1) == []
    await three.ledger.release(suspect.request.id, suspect.epoch, ReleaseHow.FATAL)
    [last] = await three.ledger.claim("w", "m", 2)
    assert last.request.id == IDS[2]


async def test_suspect_that_went_elsewhere_is_not_waited_for(three: Three, autojump_clock: MockClock) -> None:
    await three.ledger.submit(request(IDS[1]))
    for number in range(2):
        await three.ledger.beat(f"crashed {number}")
        assert await three.ledger.claim(f"crashed {number}", "m", 1)
        await three.ledger.leave(f"crashed {number}")
    await three.ledger.submit(request(IDS[0]))
    await three.ledger.beat("w")
    [_] = await three.ledger.claim("w", "m", 2)
    await three.ledger.submit(request(IDS[2]))
    await three.ledger.beat("w")
    assert await three.ledger.claim("w", "m", 1) == []
    await three.ledger.beat("empty")
    [suspect] = await three.ledger.claim("empty", "m", 1)
    assert suspect.quarantined
    await three.ledger.beat("w")
    [claim] = await three.ledger.claim("w", "m", 1)
    assert claim.request.id == IDS[2]


async def test_dead_letter_is_requeued_on_another_shard_once(three: Three, autojump_clock: MockClock) -> None:
    await three.ledger.submit(request(IDS[1]))
    await three.ledger.beat("w")
    [claim] = await three.ledger.claim("w", "m", 1)
    await three.ledger.release(IDS[1], claim.epoch, ReleaseHow.FATAL)
    assert await three.ledger.requeue(IDS[1], IDS[2]) is SubmitOutcome.ACCEPTED
    assert await three.ledger.requeue(IDS[1], IDS[2]) is SubmitOutcome.DUPLICATE  # as after a lost answer
    await three.ledger.forget(IDS[2])
    assert await three.ledger.requeue(IDS[1], IDS[2]) is SubmitOutcome.DUPLICATE
    assert await three.ledger.dead_letters() == []
    with pytest.raises(NotFound):
        await three.ledger.requeue(IDS[1], "another")


async def test_waiting_worker_hears_of_work_on_any_shard(three: Three, autojump_clock: MockClock) -> None:
    await three.ledger.beat("w")
    await three.ledger.wait_work("w", "m")
    for each in IDS.values():
        await three.ledger.submit(request(each))
        assert await three.ledger.wait_work("w", "m")
        assert [claim.request.id for claim in await three.ledger.claim("w", "m", 5)] == [each]


async def test_pages_of_usage_have_each_record_once(three: Three, autojump_clock: MockClock) -> None:
    await three.ledger.beat("w")
    for number in range(11):
        await three.ledger.submit(request("req_" + "c" * 30 + f"{number * number:02x}"))
        await trio.sleep(0.01)
        [claim] = await three.ledger.claim("w", "m", 1)
        await three.write(claim, 1, number + 1, ends=True)
    shown: list[int] = []
    after = ""
    while True:
        page = await three.ledger.usage_records(0, 10**15, after, 2)
        shown += [record.completion_tokens for record in page.records]
        after = page.next
        if not after:
            break
    assert shown == list(range(1, 12))
    report = await three.ledger.usage_report(0, 10**15, UsageBy.TENANT)
    assert (report.total.requests, report.total.completion_tokens) == (11, 66)


async def test_sums_of_usage_are_whole_or_refused(three: Three, autojump_clock: MockClock) -> None:
    three.shards[2].go_away()
    with pytest.raises(Unavailable, match="shard 2"):
        await three.ledger.usage_report(0, 10**15, UsageBy.TENANT)
    assert (await three.ledger.statistics()).queued == 0


async def test_requests_of_two_shards_are_not_one_call(three: Three, autojump_clock: MockClock) -> None:
    with pytest.raises(ValueError, match="one shard"):
        await three.ledger.admit([Candidate(request(IDS[0])), Candidate(request(IDS[1]))])
