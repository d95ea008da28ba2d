"""Static batches: one `max_tokens` per batch, the window, and a batch that runs alone and to its end."""

import random

import attrs
import pytest
import trio
from trio.testing import MockClock

from llmactors.backends.base import Batching
from llmactors.backends.mock.backend import MockSettings
from llmactors.batcher.messages import DrainBatcher
from llmactors.batcher.settings import BatcherSettings
from tests.virtual.batcher.conftest import BACKEND, BATCHER, Stream, World, codes

STATIC = MockSettings(step_ms=10, slots=8, batching=Batching.STATIC)
WINDOW_S = 5.0
PATIENT = BatcherSettings(window_s=WINDOW_S)


def began_s(stream: Stream) -> float:
    """How long after its submission a request was given to the backend, in seconds; a step takes 10 ms."""
    return round(stream.times[0] - stream.submitted_at - 0.01, 6)


async def test_batch_has_one_length_and_runs_to_its_end_alone(autojump_clock: MockClock) -> None:
    """The mock crashes where a request joins a running batch, or one of another length."""
    world = World(STATIC)
    async with world.running():
        await world.submit(max_tokens=10)
        await trio.sleep(0.025)
        for max_tokens in (5, 7, 5, 7, 5):
            await world.submit(max_tokens=max_tokens)
        await world.all_ended()
        began = world.streams[0].submitted_at
        ends = [round(1000 * (stream.ended_at - began)) for stream in world.streams]
        assert ends == [120, 170, 240, 170, 240, 170]
    assert world.incarnations == (1, 1)
    assert world.metrics.batches == [1, 3, 2]


async def test_request_alone_waits_exactly_the_window(autojump_clock: MockClock) -> None:
    world = World(STATIC, batcher=PATIENT)
    async with world.running():
        for _ in range(2):
            stream = await world.submit()
            await stream.done.wait()
            assert began_s(stream) == WINDOW_S
            await trio.sleep(1)


async def test_batch_without_a_window_starts_at_once(autojump_clock: MockClock) -> None:
    world = World(STATIC, batcher=BatcherSettings(window_s=0))
    async with world.running():
        stream = await world.submit()
        await stream.done.wait()
        assert began_s(stream) == 0


async def test_window_begins_with_the_first_of_its_group(autojump_clock: MockClock) -> None:
    world = World(STATIC, batcher=PATIENT)
    async with world.running():
        for _ in range(3):
            await world.submit()
            await trio.sleep(2)
    assert [began_s(stream) for stream in world.streams] == [5, 3, 1]
    assert world.metrics.batches == [3]


async def test_full_batch_starts_at_once(autojump_clock: MockClock) -> None:
    world = World(attrs.evolve(STATIC, slots=3), batcher=PATIENT)
    async with world.running():
        for _ in range(3):
            await world.submit()
            await trio.sleep(1)
    assert [began_s(stream) for stream in world.streams] == [2, 1, 0]


async def test_backend_whose_slots_are_all_taken_starts_at_once(autojump_clock: MockClock) -> None:
    """Its eight slots are claimed for two lengths: nothing more could be claimed for either."""
    world = World(STATIC, batcher=PATIENT)
    async with world.running():
        for number in range(8):
            await world.submit(max_tokens=3 + number % 2)
    assert world.metrics.batches == [4, 4]
    assert [began_s(stream) for stream in world.streams] == [0, 0.03] * 4


async def test_different_lengths_do_not_share_a_window(autojump_clock: MockClock) -> None:
    """The second length does not wait for a window of its own: the first length's batch was its wait."""
    world = World(STATIC, batcher=PATIENT)
    async with world.running():
        await world.submit(max_tokens=4)
        await trio.sleep(4)
        await world.submit(max_tokens=8)
    assert [began_s(stream) for stream in world.streams] == [5, 1.04]
    assert world.metrics.batches == [1, 1]


async def test_wait_behind_a_batch_ends_with_it(autojump_clock: MockClock) -> None:
    """Requests that were queued while a batch ran start together at its end, without another window."""
    world = World(STATIC, batcher=PATIENT)
    async with world.running():
        await world.submit(max_tokens=100)
        await trio.sleep(5.5)
        await world.submit()
        await trio.sleep(0.4)
        await world.submit()
        await world.all_ended()
        assert [began_s(stream) for stream in world.streams] == [5, 0.5, 0.1]
        late = await world.submit()
        await late.done.wait()
        assert began_s(late) == WINDOW_S
    assert world.metrics.batches == [1, 2, 1]


async def test_cancel_during_the_window_leaves_the_others(autojump_clock: MockClock) -> None:
    """The window of the others begins with the first that is left."""
    world = World(STATIC, batcher=PATIENT)
    async with world.running():
        for _ in range(3):
            await world.submit()
            await trio.sleep(1)
        await world.memory.cancel("r0")
        await world.all_ended()
        assert [began_s(stream) for stream in world.streams[1:]] == [5, 4]
        alone = await world.submit()
        await trio.sleep(2)
        await world.memory.cancel(alone.request.id)
        await trio.sleep(0.1)
        assert len(world.batcher._former) == 0
    assert codes(world) == ["cancelled", "length", "length", "cancelled"]
    assert world.metrics.batches == [2]


async def test_request_that_expires_during_the_window_never_starts(autojump_clock: MockClock) -> None:
    world = World(STATIC, batcher=PATIENT)
    async with world.running():
        await world.submit(deadline_ms=world.wall_ms() + 1000)
        await world.submit()
    assert codes(world) == ["DEADLINE_EXCEEDED", "length"]
    assert world.streams[0].tokens == []
    assert world.metrics.batches == [1]


async def test_drain_during_the_window_hands_back(autojump_clock: MockClock) -> None:
    world = World(STATIC, batcher=PATIENT)
    async with world.running():
        for _ in range(2):
            await world.submit()
        await trio.sleep(1)
        await world.batcher_spec.ref.ask(DrainBatcher())
        statistics = await world.memory.statistics()
        assert (statistics.queued, statistics.running, statistics.workers) == (2, 0, 0)
        await trio.sleep(2 * WINDOW_S)
        assert world.metrics.batches == []
        assert [(await world.memory.info(stream.request.id)).attempt for stream in world.streams] == [0, 0]
        world.crash(BATCHER)
    assert codes(world) == ["length"] * 2


async def test_backend_crash_during_the_window_costs_no_attempt(autojump_clock: MockClock) -> None:
    world = World(STATIC, batcher=PATIENT)
    async with world.running():
        for _ in range(2):
            await world.submit()
        await trio.sleep(1)
        world.crash(BACKEND)
        await world.all_ended()
        assert [(await world.memory.info(stream.request.id)).attempt for stream in world.streams] == [1, 1]
    assert codes(world) == ["length"] * 2
    assert world.incarnations == (1, 2)
    assert world.metrics.batches == [2]


async def test_lease_is_renewed_during_the_window(autojump_clock: MockClock) -> None:
    world = World(STATIC, batcher=PATIENT, lease_s=2)
    async with world.running():
        stream = await world.submit()
        await trio.sleep(0.5)
        before = world.memory.beats
        await stream.done.wait()
        assert world.memory.beats - before >= 4
        assert began_s(stream) == WINDOW_S
        assert (await world.memory.info(stream.request.id)).attempt == 1


@pytest.mark.parametrize("lengths", [(4,), (4, 9)])
async def test_lease_lost_during_the_window_loses_nothing(autojump_clock: MockClock, lengths: tuple[int, ...]) -> None:
    """The old claims are not started, because another worker may have the requests by then."""
    world = World(STATIC, batcher=PATIENT)
    async with world.running():
        for max_tokens in lengths:
            await world.submit(max_tokens=max_tokens)
        await trio.sleep(1)
        await world.memory.leave(world.batcher._claimer.worker)
        await trio.sleep(0.1)
        assert (await world.memory.statistics()).workers == 1
    assert codes(world) == ["length"] * len(lengths)
    assert world.incarnations == (1, 1)


async def test_batch_is_no_larger_than_allowed(autojump_clock: MockClock) -> None:
    world = World(attrs.evolve(STATIC, slots=3))
    async with world.running():
        for _ in range(8):
            await world.submit(max_tokens=2)
    assert world.metrics.batches == [3, 3, 2]


async def test_next_batch_is_filled_from_the_queue(autojump_clock: MockClock) -> None:
    """Its first requests were claimed before the batch that ends now, and others of their length came meanwhile."""
    world = World(STATIC, batcher=PATIENT)
    async with world.running():
        for max_tokens in (4, 4, 4, 4, 4, 4, 9, 9):
            await world.submit(max_tokens=max_tokens)
        await trio.sleep(0.015)
        for _ in range(5):
            await world.submit(max_tokens=9)
    assert world.metrics.batches == [6, 7]


async def test_requests_behind_a_batch_stay_in_the_queue(autojump_clock: MockClock) -> None:
    """Another worker can take them, and a crash of this batch does not concern them."""
    world = World(STATIC)
    async with world.running():
        await world.submit(max_tokens=100)
        await trio.sleep(0.05)
        waiting = await world.submit(max_tokens=100)
        await trio.sleep(0.05)
        info = await world.memory.info(waiting.request.id)
        assert (info.state, info.attempt) == ("queued", 0)


async def test_cancel_works_in_a_batch_and_behind_it(autojump_clock: MockClock) -> None:
    world = World(STATIC)
    async with world.running():
        await world.submit(max_tokens=20)
        await trio.sleep(0.025)
        long, short, other = [await world.submit(max_tokens=max_tokens) for max_tokens in (30, 9, 9)]
        await world.until(lambda: len(long.tokens) == 3)  # the two others have been claimed, and wait
        assert len(world.batcher._former) == 2
        await world.memory.cancel(short.request.id)
        await world.memory.cancel(long.request.id)
        await other.done.wait()
        assert other.ended_at - long.ended_at < 0.11
    assert codes(world) == ["length", "cancelled", "cancelled", "length"]
    assert world.incarnations == (1, 1)


async def test_crash_counts_only_against_the_running_batch(autojump_clock: MockClock) -> None:
    """The claims that waited behind it give their attempts back."""
    world = World(MockSettings(step_ms=10, slots=8, batching=Batching.STATIC, crash_at=5, crash_times=1))
    async with world.running():
        await world.submit(max_tokens=2)
        await trio.sleep(0.025)
        for max_tokens in (10, 20, 20, 30):
            await world.submit(max_tokens=max_tokens)
        await world.all_ended()
        attempts = [(await world.memory.info(stream.request.id)).attempt for stream in world.streams]
    assert codes(world) == ["length"] * 5
    assert attempts == [1, 2, 1, 1, 1]


async def test_any_mix_of_lengths_ends_whole(autojump_clock: MockClock) -> None:
    rng = random.Random(7)
    world = World(MockSettings(step_ms=10, slots=8, batching=Batching.STATIC, eos_one_in=20))
    async with world.running():
        for _ in range(60):
            await world.submit(max_tokens=rng.choice((3, 5, 30)))
            await trio.sleep(rng.random() * 0.03)
    assert set(codes(world)) <= {"length", "stop"}
    assert world.incarnations == (1, 1)
