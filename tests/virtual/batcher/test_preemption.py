"""Preemption: a request that waits too long gets the slot of a less urgent one, and no token is lost or repeated.

`World` compares each stream with the oracle's, token by token, and checks that each ends once.
"""

import random

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from llmactors.backends.mock.backend import MockSettings
from llmactors.batcher.settings import BatcherSettings
from tests.virtual.batcher.conftest import BACKEND, BATCHER, World, codes

OFTEN = BatcherSettings(preempt_every_s=0.05, least_turn_s=0.2)
SLOTS = 4


def full_house(mock: MockSettings | None = None, *, after_s: float = 0.5) -> World:
    return World(mock or MockSettings(step_ms=40, slots=SLOTS), batcher=OFTEN, preempt_after_s=after_s)


async def test_urgent_request_starts_soon_in_a_full_house(autojump_clock: MockClock) -> None:
    for after_s, slowest_s in ((0.5, 0.7), (0.0, 100.0)):
        world = full_house(after_s=after_s)
        async with world.running():
            for _ in range(2 * SLOTS):
                await world.submit(max_tokens=200, priority=2)
            await trio.sleep(1)
            urgent = await world.submit(max_tokens=5, priority=0)
            await world.all_ended()
        waited_s = urgent.times[0] - urgent.submitted_at
        assert waited_s < slowest_s
        assert (waited_s < 1) == bool(after_s), "without preemption the request waits for the end of another"
        assert world.metrics.preemptions == bool(after_s)
        assert codes(world) == ["length"] * len(world.streams)


async def test_least_urgent_and_shortest_answer_gives_way(autojump_clock: MockClock) -> None:
    world = full_house()
    async with world.running():
        long, usual = await world.submit(max_tokens=150, priority=2), await world.submit(max_tokens=150)
        await trio.sleep(0.5)
        short, other = await world.submit(max_tokens=150, priority=2), await world.submit(max_tokens=150)
        await trio.sleep(1)
        urgent = await world.submit(max_tokens=50, priority=0)
        await world.until(lambda: bool(urgent.tokens))
        held = {running.claim.request.id for running in world.batcher._running.values()}
        assert held == {each.request.id for each in (long, usual, other, urgent)}
        assert short.tokens


async def test_request_of_its_own_class_waits(autojump_clock: MockClock) -> None:
    world = full_house()
    async with world.running():
        for _ in range(3 * SLOTS):
            await world.submit(max_tokens=40)
        await world.all_ended()
    assert world.metrics.preemptions == 0


async def test_last_tokens_and_short_turns_are_left_alone(autojump_clock: MockClock) -> None:
    """Each request has run for less than its least turn, or would end within 8 tokens.

    At the end of the least turn, the third or the fourth token is made, and two would be enough.
    """
    world = full_house(after_s=0.01)
    async with world.running():
        for _ in range(SLOTS):
            await world.submit(max_tokens=10, priority=2)
        for _ in range(4):
            await trio.sleep(0.1)
            await world.submit(max_tokens=2, priority=0)
        await world.all_ended()
    assert world.metrics.preemptions == 0


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), drills=st.lists(st.sampled_from([BACKEND, BATCHER]), max_size=2))
def test_tokens_are_exact_under_preemption_and_crashes(seed: int, drills: list[str]) -> None:
    async def main() -> None:
        rng = random.Random(seed)
        world = full_house(after_s=0.1)
        async with world.running():
            for drill in [None, *drills, None]:
                for _ in range(6):
                    await world.submit(max_tokens=rng.randint(5, 60), priority=rng.choice([0, 1, 2, 2]))
                    await trio.sleep(rng.random())
                if drill is not None:
                    world.crash(drill)
            await world.all_ended()
        assert codes(world) == ["length"] * len(world.streams)

    trio.run(main, clock=MockClock(autojump_threshold=0))
