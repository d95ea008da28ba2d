"""A pause of the process is no crash of what was running, and a dead batcher is replaced without a time-out."""

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from llmactors.backends.actor import HealthSettings
from llmactors.backends.base import BackendFrozen
from llmactors.backends.mock.backend import MockSettings
from llmactors.batcher.settings import BatcherSettings
from tests.virtual.batcher.conftest import BACKEND, BATCHER, CountingLedger, World, codes

HERE = BatcherSettings(node="here")


class DeafLedger(CountingLedger):
    """Does not hear that a worker leaves."""

    async def leave(self, worker: str) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("pause_s", [2.0, 30.0, 3600.0])
async def test_pauses_of_the_process_cost_no_attempt(mock_clock: MockClock, pause_s: float) -> None:
    world = World(MockSettings(step_ms=20, slots=4), batcher=HERE, lease_s=math.inf)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        world._nursery = nursery
        streams = [await world.submit(max_tokens=400) for _ in range(6)]
        for _ in range(7):
            await wait_all_tasks_blocked()
            mock_clock.jump(pause_s)
        mock_clock.autojump_threshold = 0
        await world.all_ended()
        attempts = [(await world.memory.info(stream.request.id)).attempt for stream in streams]
        world.tree.stop()
    assert codes(world) == ["length"] * 6
    assert attempts == [1] * 6
    assert world.incarnations == (1, 1)


async def test_dead_batcher_is_replaced_without_a_time_out(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slots=4), ledger=DeafLedger, batcher=HERE, lease_s=math.inf)
    async with world.running():
        streams = [await world.submit(max_tokens=100) for _ in range(4)]
        await world.until(lambda: len(streams[0].tokens) == 5)
        crashed_at = trio.current_time()
        world.crash(BATCHER)
        await world.until(lambda: len(streams[0].tokens) > 6)
        assert trio.current_time() - crashed_at < 1
        assert (await world.memory.info("r0")).attempt == 2
        assert (await world.memory.statistics()).workers == 1
    assert codes(world) == ["length"] * 4


async def test_frozen_backend_is_replaced_at_no_cost(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slots=4), batcher=HERE, lease_s=math.inf)
    async with world.running():
        stream = await world.submit(max_tokens=200)
        for round_ in range(1, 6):
            await world.until(lambda: len(stream.tokens) >= 10 * round_)  # noqa: B023 - awaited at once
            world.tree.actor(BACKEND).crash(BackendFrozen("SIGSTOP"))
            await world.until(lambda: world.incarnations[1] > round_)  # noqa: B023
        await stream.done.wait()
        assert (await world.memory.info("r0")).attempt == 1
    assert codes(world) == ["length"]


async def test_late_look_at_a_step_is_no_hang(mock_clock: MockClock) -> None:
    health = HealthSettings(stalled_s=5, hung_s=60, check_every_s=1e6)
    world = World(MockSettings(step_ms=8_000, slots=4), batcher=HERE, lease_s=math.inf, health=health)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        world._nursery = nursery
        await world.submit(max_tokens=30)
        for _ in range(20):
            await wait_all_tasks_blocked()
            mock_clock.jump(100)
        mock_clock.autojump_threshold = 0
        await world.all_ended()
        world.tree.stop()
    assert world.incarnations == (1, 1)
