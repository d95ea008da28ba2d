"""No tenant can starve another one, and an expected wait comes true."""

from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from llmactors.backends.mock.backend import MockSettings
from llmactors.messages import GenerateRequest
from tests.support.fairness import jain
from tests.virtual.batcher.conftest import MODEL, World

SMALL = [f"small{each}" for each in range(9)]
OFFERED = 8
"""The number of requests of each small tenant. The big tenant submits a hundred times as many."""


@pytest.mark.parametrize("slots", [1, 4, 10])
async def test_tenant_with_a_hundredfold_load_gets_its_share(autojump_clock: MockClock, slots: int) -> None:
    world = World(MockSettings(step_ms=10, slots=slots))
    async with world.running():
        for _ in range(OFFERED * 100):
            await world.submit(max_tokens=10, tenant="big")
        for _ in range(OFFERED):
            for tenant in SMALL:
                await world.submit(max_tokens=10, tenant=tenant)
        await trio.sleep(0.2)  # until what had the slots before there was anybody else has ended
        already = tokens_by_tenant(world)
        # As long as each small tenant still has something that waits.
        await world.until(lambda: min(waiting(world)[tenant] for tenant in SMALL) <= 1, every_s=0.05)
        now = tokens_by_tenant(world)
        shares = {tenant: float(now[tenant] - already[tenant]) for tenant in ("big", *SMALL)}
        assert jain(shares) >= 0.95, shares
        for stream in world.streams:
            await world.memory.cancel(stream.request.id)


async def test_less_urgent_class_never_starves(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slots=1))
    async with world.running():
        patient = await world.submit(max_tokens=2, priority=2, tenant="patient")
        for _ in range(200):
            await world.submit(max_tokens=2, priority=0, tenant="urgent")
        await patient.done.wait()
        assert sum(stream.done.is_set() for stream in world.streams) < 40
        for stream in world.streams:
            await world.memory.cancel(stream.request.id)


async def test_expected_wait_comes_true(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slots=2))
    async with world.running():
        for _ in range(40):
            await world.submit(max_tokens=10, tenant="a")
        await trio.sleep(1.0)
        expected_s = await world.memory.expected_wait_s(GenerateRequest("next", MODEL, "hi", tenant="a"))
        begun = trio.current_time()
        stream = await world.submit(max_tokens=10, tenant="a")
        await world.until(lambda: bool(stream.tokens), every_s=0.01)
        assert abs(trio.current_time() - begun - expected_s) < 0.2 * expected_s + 0.05


def tokens_by_tenant(world: World) -> Counter[str]:
    made: Counter[str] = Counter()
    for stream in world.streams:
        made[stream.request.tenant] += len(stream.tokens)
    return made


def waiting(world: World) -> Counter[str]:
    return Counter(stream.request.tenant for stream in world.streams if not stream.tokens)
