"""A drain: every request goes back with its attempt, and nothing is claimed or written afterwards."""

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from llmactors.backends.base import Batching
from llmactors.backends.mock.backend import MockSettings
from llmactors.batcher.messages import CordonChanged, DrainBatcher
from llmactors.ledger import AppendResult, BeatResult, ReleaseHow
from tests.virtual.batcher.conftest import BATCHER, MODEL, CountingLedger, World, codes

TOKENS = 20


class RecordingLedger(CountingLedger):
    """Records how claims are handed back."""

    released: list[ReleaseHow]
    left: list[str]

    async def release(self, request_id: str, epoch: int, how: ReleaseHow, cause: str = "") -> AppendResult:
        self.__dict__.setdefault("released", []).append(how)
        return await super().release(request_id, epoch, how, cause)

    async def leave(self, worker: str) -> None:
        self.__dict__.setdefault("left", []).append(worker)
        await super().leave(worker)


class SlowLedger(CountingLedger):
    """What a worker says of itself and of its claims takes a while, as over a slow network."""

    async def release(self, request_id: str, epoch: int, how: ReleaseHow, cause: str = "") -> AppendResult:
        await trio.sleep(0.1)
        return await super().release(request_id, epoch, how, cause)

    async def beat(self, worker: str) -> BeatResult:
        await trio.sleep(0.1)
        return await super().beat(worker)


@contextlib.asynccontextmanager
async def drained_in_the_middle(world: World, requests: int, at_s: float) -> AsyncIterator[dict[str, int]]:
    """Drains the batcher while its streams run, and yields the length of each log. Then restarts the batcher."""
    async with world.running():
        for _ in range(requests):
            await world.submit(max_tokens=TOKENS)
        await trio.sleep(at_s)
        await world.batcher_spec.ref.ask(DrainBatcher())
        yield {stream.request.id: (await world.memory.info(stream.request.id)).last_seq for stream in world.streams}
        world.crash(BATCHER)


@pytest.mark.parametrize("batching", Batching)
@pytest.mark.parametrize("requests", [1, 3, 7])
async def test_drain_gives_all_requests_and_attempts_back(
    autojump_clock: MockClock, batching: Batching, requests: int
) -> None:
    world = World(MockSettings(step_ms=10, slots=4, batching=batching), ledger=RecordingLedger)
    async with drained_in_the_middle(world, requests, 0.075) as lengths:
        assert isinstance(world.memory, RecordingLedger)
        claimed = len(world.memory.released)
        assert world.memory.released == [ReleaseHow.SILENT] * claimed
        if batching is Batching.CONTINUOUS:
            assert claimed == min(requests, 4)
        assert len(world.memory.left) == 1
        statistics = await world.memory.statistics()
        assert (statistics.running, statistics.queued, statistics.workers) == (0, requests, 0)
        assert any(lengths.values())
        for stream in world.streams:
            assert (await world.memory.info(stream.request.id)).attempt == 0  # it was given back
        claims = await another_worker(world)
        assert set(claims.values()) == {1}
        assert len(claims) == requests
    assert codes(world) == ["length"] * requests


async def another_worker(world: World) -> dict[str, int]:
    """Claims all requests as another worker, hands them back, and returns their attempts."""
    await world.memory.beat("other")
    claims = await world.memory.claim("other", MODEL, 100)
    for claim in claims:
        await world.memory.release(claim.request.id, claim.epoch, ReleaseHow.SILENT)
    return {claim.request.id: claim.attempt for claim in claims}


async def test_nothing_is_written_or_claimed_after_a_drain(autojump_clock: MockClock) -> None:
    """At any moment of a step. Outputs that came before the drain are in the log, and later ones are not."""
    for at_ms in range(1, 40, 3):
        world = World(MockSettings(step_ms=10, slots=4))
        async with drained_in_the_middle(world, 3, at_ms / 1000) as lengths:
            await world.submit(max_tokens=TOKENS)
            await trio.sleep(3)
            for request_id, length in lengths.items():
                assert (await world.memory.info(request_id)).last_seq == length
            assert (await world.memory.statistics()).queued == 4
            assert world.backend._slots == {}
            assert all(length >= (at_ms - 11) // 10 for length in lengths.values())
        assert codes(world) == ["length"] * 4


async def test_second_drain_is_answered_at_once(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slots=4))
    async with drained_in_the_middle(world, 2, 0.03):
        with trio.fail_after(0.001):
            await world.batcher_spec.ref.ask(DrainBatcher())


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("batching", Batching)
async def test_cordon_hands_back_and_its_end_claims_again(
    autojump_clock: MockClock, batching: Batching, crash: bool
) -> None:
    world = World(MockSettings(step_ms=10, slots=4, batching=batching))
    async with world.running():
        for _ in range(7):
            await world.submit(max_tokens=TOKENS)
        await trio.sleep(0.075)
        world.takes_work = False
        await world.batcher_spec.ref.tell(CordonChanged())
        await trio.sleep(0.5)
        if crash:
            world.crash(BATCHER)
        await world.submit(max_tokens=TOKENS)
        await trio.sleep(3.0)
        statistics = await world.memory.statistics()
        assert (statistics.running, statistics.queued) == (0, 8)
        world.takes_work = True
        await world.batcher_spec.ref.tell(CordonChanged())
    assert codes(world) == ["length"] * 8
    attempts = [(await world.memory.info(stream.request.id)).attempt for stream in world.streams]
    assert attempts == [1] * 8


async def test_end_of_cordon_while_handing_back_costs_nothing(autojump_clock: MockClock) -> None:
    """Nothing is claimed until the worker has handed back everything, and has become another worker of the ledger."""
    for after_ms in range(10, 400, 30):
        world = World(MockSettings(step_ms=10, slots=2), ledger=SlowLedger)
        async with world.running():
            for _ in range(4):
                await world.submit(max_tokens=TOKENS)
            await trio.sleep(0.175)
            world.takes_work = False
            await world.batcher_spec.ref.tell(CordonChanged())
            await trio.sleep(after_ms / 1000)
            world.takes_work = True
            await world.batcher_spec.ref.tell(CordonChanged())
            await world.submit(max_tokens=TOKENS)
        assert codes(world) == ["length"] * 5
        assert [(await world.memory.info(each.request.id)).attempt for each in world.streams] == [1] * 5


async def test_cordoned_worker_keeps_no_suspect_waiting(autojump_clock: MockClock) -> None:
    """A suspect that was reserved for the worker goes to another one."""
    world = World(MockSettings(step_ms=10, slots=4, crash_at=2, crash_times=2))
    async with world.running():
        await world.submit(max_tokens=TOKENS)
        await world.until(lambda: world.incarnations[1] == 3)
        world.takes_work = False
        await world.batcher_spec.ref.tell(CordonChanged())
        await trio.sleep(0.2)
        await world.memory.beat("other")
        assert [claim.request.id for claim in await world.memory.claim("other", MODEL, 1)] == ["r0"]
        await world.memory.leave("other")
        world.takes_work = True
        await world.batcher_spec.ref.tell(CordonChanged())
