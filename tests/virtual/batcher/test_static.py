"""Static batching: one `max_tokens` per batch, a batch runs alone and to its end, and nobody is forgotten."""

import random

import trio
from trio.testing import MockClock

from llmactors.backends.base import Batching
from llmactors.backends.mock.backend import MockSettings
from llmactors.batcher.actor import BatcherSettings
from tests.virtual.batcher.conftest import World, codes

STATIC = MockSettings(step_ms=10, slots=8, batching=Batching.STATIC)


async def test_a_batch_has_one_length_and_runs_to_its_end_alone(autojump_clock: MockClock) -> None:
    """The mock crashes where somebody joins a running batch, or one of another length."""
    world = World(STATIC)
    async with world.running():
        await world.submit(max_tokens=10)
        await trio.sleep(0.025)
        for max_tokens in (5, 7, 5, 7, 5):
            await world.submit(max_tokens=max_tokens)
        await world.all_ended()
        began = world.streams[0].submitted_at
        ends = [round(1000 * (stream.ended_at - began)) for stream in world.streams]
        assert ends == [100, 150, 220, 150, 220, 150]
    assert world.incarnations == (1, 1)
    assert world.metrics.batches == [1, 3, 2]


async def test_an_idle_backend_never_waits_for_the_window(autojump_clock: MockClock) -> None:
    world = World(STATIC, batcher=BatcherSettings(window_s=5))
    async with world.running():
        stream = await world.submit()
        await stream.done.wait()
        assert round(stream.ended_at - stream.submitted_at, 6) == 0.04
        other = await world.submit()
        await other.done.wait()
        assert round(other.ended_at - other.submitted_at, 6) == 0.04


async def test_a_batch_is_no_larger_than_allowed(autojump_clock: MockClock) -> None:
    world = World(STATIC, batcher=BatcherSettings(max_batch=3))
    async with world.running():
        await world.submit(max_tokens=2)
        await trio.sleep(0.005)
        for _ in range(7):
            await world.submit(max_tokens=2)
    assert world.metrics.batches == [1, 3, 3, 1]


async def test_who_waits_while_a_batch_runs_stays_in_the_queue(autojump_clock: MockClock) -> None:
    """So another worker may take it, and no crash of this batch touches it."""
    world = World(STATIC)
    async with world.running():
        await world.submit(max_tokens=100)
        await trio.sleep(0.05)
        waiting = await world.submit(max_tokens=100)
        await trio.sleep(0.05)
        info = await world.memory.info(waiting.request.id)
        assert (info.state, info.attempt) == ("queued", 0)


async def test_a_cancel_in_the_batch_and_one_in_the_window(autojump_clock: MockClock) -> None:
    world = World(STATIC)
    async with world.running():
        await world.submit(max_tokens=20)
        await trio.sleep(0.005)
        long, short, other = [await world.submit(max_tokens=max_tokens) for max_tokens in (30, 9, 9)]
        await world.until(lambda: len(long.tokens) == 3)  # the two others have been claimed, and wait
        assert len(world.batcher._former) == 2
        await world.memory.cancel(short.request.id)
        await world.memory.cancel(long.request.id)
        await other.done.wait()
        assert other.ended_at - long.ended_at < 0.11
    assert codes(world) == ["length", "cancelled", "cancelled", "length"]
    assert world.incarnations == (1, 1)


async def test_a_crash_of_the_backend_gives_the_attempts_of_those_in_the_window_back(
    autojump_clock: MockClock,
) -> None:
    world = World(MockSettings(step_ms=10, slots=8, batching=Batching.STATIC, crash_at=5, crash_times=1))
    async with world.running():
        await world.submit(max_tokens=2)
        await trio.sleep(0.005)
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
