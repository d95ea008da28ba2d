"""A ledger that is slow, takes the lease away, forgets a part of a log, or fails: the batcher loses nothing."""

from collections.abc import Sequence

import attrs
import pytest
import trio
from trio.testing import MockClock

from llmactors.backends.mock.backend import MockSettings
from llmactors.batcher.settings import BatcherSettings
from llmactors.errors import Unavailable
from llmactors.ledger import AppendEntry, AppendOutcome, AppendResult, BeatResult
from tests.virtual.batcher.conftest import BACKEND, BATCHER, CountingLedger, World, codes


class SlowLedger(CountingLedger):
    """Delays each append and each beat by settable times."""

    append_s = 0.0
    beat_s = 0.0

    async def append(self, entries: Sequence[AppendEntry]) -> list[AppendResult]:
        await trio.sleep(self.append_s)
        return await super().append(entries)

    async def beat(self, worker: str) -> BeatResult:
        await trio.sleep(self.beat_s)
        return await super().beat(worker)


class LossyLedger(CountingLedger):
    """Loses the last `lost` tokens of a log that has `at` tokens, before `losses` appends: a store that syncs late."""

    losses = 0
    at = 5
    lost = 3

    async def append(self, entries: Sequence[AppendEntry]) -> list[AppendResult]:
        for entry in entries:
            record = self._life.records[entry.request_id]
            if self.losses and len(record.tokens) >= self.at:
                self.losses -= 1
                self.at = 1
                del record.tokens[-self.lost :]
        return await super().append(entries)


class FailingLedger(CountingLedger):
    """Fails the next calls, as many as `fails` says. With `carried_out`, a failed append was written."""

    fails: dict[str, int]
    carried_out = False

    async def append(self, entries: Sequence[AppendEntry]) -> list[AppendResult]:
        if self.fails.get("append", 0):
            self.fails["append"] -= 1
            if self.carried_out:
                await super().append(entries)
            raise Unavailable
        return await super().append(entries)


async def test_lost_lease_means_a_new_worker_and_no_token_twice(autojump_clock: MockClock) -> None:
    """A beat and an append last longer than the lease, so the requests are given away meanwhile."""
    world = World(MockSettings(step_ms=10, slots=4), ledger=SlowLedger, lease_s=2)
    assert isinstance(world.memory, SlowLedger)
    async with world.running():
        for _ in range(6):
            await world.submit(max_tokens=20)
        await world.until(lambda: len(world.streams[0].tokens) == 5)
        worker = world.batcher._claimer.worker
        world.memory.append_s = world.memory.beat_s = 4.0
        await trio.sleep(1.02)
        world.memory.append_s = world.memory.beat_s = 0.0
        await trio.sleep(10)
        assert world.batcher._claimer.worker != worker
        assert (await world.memory.statistics()).workers == 1
    assert codes(world) == ["length"] * 6
    assert world.incarnations == (1, 1)


async def test_lease_lost_repeatedly_still_ends_every_request(autojump_clock: MockClock) -> None:
    """Requests that get into quarantine end there, complete or as poisoned."""
    world = World(
        MockSettings(step_ms=10, slots=4), ledger=SlowLedger, lease_s=0.5, batcher=BatcherSettings(beat_every_s=2)
    )
    async with world.running():
        for _ in range(4):
            await world.submit(max_tokens=400)
    assert set(codes(world)) <= {"length", "POISONED"}
    assert world.incarnations == (1, 1)


async def test_dead_lease_is_no_busy_loop(autojump_clock: MockClock) -> None:
    """While a beat is slow, the lease is gone, and `wait_work` returns at once each time."""
    world = World(MockSettings(step_ms=10), ledger=SlowLedger, lease_s=1)
    assert isinstance(world.memory, SlowLedger)
    async with world.running():
        stream = await world.submit(max_tokens=20)
        await world.until(lambda: len(stream.tokens) == 2)
        before = world.memory.beats
        world.memory.append_s = world.memory.beat_s = 30.0
        await trio.sleep(1.02)
        world.memory.append_s = world.memory.beat_s = 0.0
        with trio.fail_after(100):  # the clock moves only while all tasks wait, so a busy loop never ends
            await stream.done.wait()
        assert world.memory.beats - before < 50


async def test_slow_append_costs_no_lease(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slots=4), ledger=SlowLedger, lease_s=2)
    assert isinstance(world.memory, SlowLedger)
    async with world.running():
        for _ in range(4):
            await world.submit(max_tokens=20)
        await world.until(lambda: len(world.streams[0].tokens) == 5)
        worker = world.batcher._claimer.worker
        world.memory.append_s = 30.0
        await trio.sleep(0.02)
        world.memory.append_s = 0.0
        await trio.sleep(20)
        assert world.batcher._claimer.worker == worker
    assert codes(world) == ["length"] * 4


async def test_tokens_made_during_an_append_go_out_in_the_next(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=1, slots=8), ledger=SlowLedger, lease_s=60)
    assert isinstance(world.memory, SlowLedger)
    async with world.running():
        world.memory.append_s = 0.05
        stream = await world.submit(max_tokens=100)
        with trio.fail_after(0.4):  # 100 writes one after another would take 5 s
            await stream.done.wait()
    assert codes(world) == ["length"]


async def test_slow_ledger_holds_up_the_backend_and_loses_nothing(autojump_clock: MockClock) -> None:
    """Too many tokens are unwritten, so the batcher's mailbox fills, and the driver waits. There is no deadlock."""
    few = BatcherSettings(max_unwritten=16)
    world = World(MockSettings(step_ms=1, slots=8), ledger=SlowLedger, lease_s=60, capacity=2, batcher=few)
    assert isinstance(world.memory, SlowLedger)
    async with world.running():
        world.memory.append_s = 0.05
        for _ in range(20):
            await world.submit(max_tokens=20)
        await trio.sleep(0.12)
        assert world.batcher_spec.ref.mailbox.statistics().depth == 2
        assert world.batcher._writer.outbox.tokens <= 16 + 8
        await world.all_ended()
        world.memory.append_s = 0.0
    assert codes(world) == ["length"] * 20
    assert world.incarnations == (1, 1)


@pytest.mark.parametrize("path", [BATCHER, BACKEND])
async def test_crash_while_the_mailbox_is_full_loses_nothing(autojump_clock: MockClock, path: str) -> None:
    for after_ms in (0, 60, 130):
        world = World(MockSettings(step_ms=1, slots=8), ledger=SlowLedger, lease_s=60, capacity=1)
        assert isinstance(world.memory, SlowLedger)
        async with world.running():
            world.memory.append_s = 0.05
            for _ in range(8):
                await world.submit(max_tokens=10)
            await trio.sleep(0.2 + after_ms / 1000)
            world.crash(path)
            await trio.sleep(0.5)
            world.memory.append_s = 0.0
        assert codes(world) == ["length"] * 8


@pytest.mark.parametrize("at", [1, 5, 9])
@pytest.mark.parametrize("lost", [1, 5])
async def test_log_that_lost_its_end_is_filled_at_once(autojump_clock: MockClock, at: int, lost: int) -> None:
    """The next append fills the log, also where that append has the terminal event."""
    world = World(MockSettings(step_ms=10), ledger=LossyLedger)
    assert isinstance(world.memory, LossyLedger)
    world.memory.losses, world.memory.at, world.memory.lost = 1, at, lost
    async with world.running():
        stream = await world.submit(max_tokens=10)
        other = await world.submit(max_tokens=10)
        await world.all_ended()
        assert world.memory.losses == 0
        for each in (stream, other):
            log = await world.memory.read(each.request.id)
            # A reader that got the lost tokens before does not get them again, but the log is complete.
            each.tokens = list(log.deltas)
            assert len(each.tokens) == 10
    assert codes(world) == ["length", "length"]
    assert [(await world.memory.info(each.request.id)).attempt for each in world.streams] == [1, 1]


async def test_log_that_keeps_losing_its_end_is_handed_back(autojump_clock: MockClock) -> None:
    """The request is claimed again, and ends once the losses end."""
    world = World(MockSettings(step_ms=10), ledger=LossyLedger)
    assert isinstance(world.memory, LossyLedger)
    world.memory.losses = 2
    async with world.running():
        stream = await world.submit(max_tokens=10)
        await stream.done.wait()
        assert (await world.memory.info(stream.request.id)).attempt == 2
        stream.tokens = list((await world.memory.read(stream.request.id)).deltas)
    assert codes(world) == ["length"]
    assert world.incarnations == (1, 1)


@pytest.mark.parametrize("carried_out", [False, True])
async def test_failed_append_restarts_only_the_batcher(autojump_clock: MockClock, carried_out: bool) -> None:
    world = World(MockSettings(step_ms=10), ledger=FailingLedger)
    assert isinstance(world.memory, FailingLedger)
    world.memory.fails, world.memory.carried_out = {}, carried_out
    async with world.running():
        for _ in range(3):
            await world.submit(max_tokens=10)
        await trio.sleep(0.035)
        world.memory.fails["append"] = 1
    assert codes(world) == ["length"] * 3
    assert world.incarnations == (2, 1)


async def test_refused_append_frees_the_slot(autojump_clock: MockClock) -> None:
    """FENCED, STOP and GONE all drop the request, and leave the others alone."""

    class Refusing(CountingLedger):
        async def append(self, entries: Sequence[AppendEntry]) -> list[AppendResult]:
            results = await super().append(entries)
            for index, entry in enumerate(entries):
                refusal = refusals.get(entry.request_id)
                if refusal is not None:
                    results[index] = AppendResult(refusal)
            return results

    refusals: dict[str, AppendOutcome] = {}
    world = World(MockSettings(step_ms=10, slots=4), ledger=Refusing)
    async with world.running():
        for _ in range(4):
            await world.submit(max_tokens=100)
        await trio.sleep(0.05)
        refused = dict(zip(("r0", "r1", "r2"), ("FENCED", "STOP", "GONE"), strict=True))
        refusals.update({name: AppendOutcome[outcome] for name, outcome in refused.items()})
        await trio.sleep(0.03)
        assert [key[0] for key in world.batcher._running] == ["r3"]
        assert [key[0] for key in world.backend._slots] == ["r3"]
        refusals.clear()
        for name in refused:
            await world.memory.cancel(name)
    assert codes(world) == ["cancelled"] * 3 + ["length"]
    assert attrs.asdict(await world.memory.statistics())["requeued_total"] == 0
