"""Claims that take a while: no token waits for them, and no event during a claim loses a request."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from llmactors.backends.base import Batching
from llmactors.backends.messages import BackendReady, BackendStalled
from llmactors.backends.mock.backend import MockBackend, MockSettings
from llmactors.batcher.messages import DrainBatcher
from llmactors.ledger import BeatResult, Claim
from tests.virtual.batcher.conftest import BACKEND, BATCHER, CountingLedger, World, codes

STEP_MS = 10
TRIP_S = 0.5


class FarLedger(CountingLedger):
    """A ledger whose claims and beats take `TRIP_S` while `far` is set. The reply takes the time of a claim."""

    far = False
    beat_s = TRIP_S
    claims_under_way = 0

    async def claim(self, worker: str, model: str, slots: int, *, hand_out: int = 0) -> list[Claim]:
        claims = await super().claim(worker, model, slots, hand_out=hand_out)
        if self.far and claims:
            self.claims_under_way += 1
            await trio.sleep(TRIP_S)
            self.claims_under_way -= 1
        return claims

    async def beat(self, worker: str) -> BeatResult:
        await trio.sleep(self.beat_s if self.far else 0)
        return await super().beat(worker)


def far_world(*, batching: Batching = Batching.CONTINUOUS) -> tuple[World, FarLedger]:
    world = World(MockSettings(step_ms=STEP_MS, slots=4, batching=batching), ledger=FarLedger)
    assert isinstance(world.memory, FarLedger)
    return world, world.memory


async def submit_and_wait_for_a_claim(world: World, ledger: FarLedger, requests: int) -> None:
    """Submits requests, and returns while the reply to a claim of them is on its way."""
    ledger.far = True
    async with trio.open_nursery() as nursery:  # in one pass of the scheduler, so that one claim gets all
        for _ in range(requests):
            nursery.start_soon(world.submit)
    await world.until(lambda: ledger.claims_under_way > 0)


async def test_tokens_do_not_wait_for_claims_and_beats(autojump_clock: MockClock) -> None:
    world, ledger = far_world()
    async with world.running():
        running = await world.submit(max_tokens=300)
        await world.until(lambda: len(running.tokens) > 3)
        ledger.far = True
        for _ in range(3):
            await world.submit()
            await trio.sleep(0.7)

    gaps = [later - earlier for earlier, later in zip(running.times, running.times[1:], strict=False)]
    assert max(gaps) < 1.5 * STEP_MS / 1000
    assert codes(world) == ["length"] * 4


async def test_request_at_an_idle_worker_costs_one_trip(autojump_clock: MockClock) -> None:
    """The beat that the request causes does not come before the claim."""
    world, ledger = far_world()
    async with world.running():
        ledger.far = True
        stream = await world.submit()
        await stream.done.wait()
        assert round(stream.times[0] - stream.submitted_at, 6) == TRIP_S + STEP_MS / 1000
        ledger.far = False


async def test_cancel_during_a_claim_frees_the_slot(autojump_clock: MockClock) -> None:
    world, ledger = far_world()
    async with world.running():
        await submit_and_wait_for_a_claim(world, ledger, 1)
        await world.memory.cancel("r0")
        await trio.sleep(2 * TRIP_S + 0.1)
        assert world.batcher._running == {}
        assert world.backend._slots == {}
    assert codes(world) == ["cancelled"]


async def test_lease_lost_during_a_claim_loses_nothing(autojump_clock: MockClock) -> None:
    """The claims are not begun, because the ledger gave the requests back to the queue."""
    world, ledger = far_world()
    async with world.running():
        await submit_and_wait_for_a_claim(world, ledger, 3)
        worker = world.batcher._claimer.worker
        await world.memory.leave(worker)
        await trio.sleep(3)
        ledger.far = False
        assert world.batcher._claimer.worker != worker
    assert codes(world) == ["length"] * 3
    assert world.incarnations == (1, 1)


@pytest.mark.parametrize("batching", Batching)
@pytest.mark.parametrize("victim", [BACKEND, BATCHER])
async def test_crash_during_a_claim_loses_nothing(victim: str, batching: Batching, autojump_clock: MockClock) -> None:
    world, ledger = far_world(batching=batching)
    async with world.running():
        await submit_and_wait_for_a_claim(world, ledger, 3)
        world.crash(victim)
    assert codes(world) == ["length"] * 3


async def test_claims_for_a_larger_backend_are_handed_back(autojump_clock: MockClock) -> None:
    slots = [4, 2]
    world = World(
        make=lambda: MockBackend(MockSettings(step_ms=STEP_MS, slots=slots.pop(0))),
        ledger=FarLedger,
    )
    ledger = world.memory
    assert isinstance(ledger, FarLedger)
    async with world.running():
        await submit_and_wait_for_a_claim(world, ledger, 4)
        world.crash(BACKEND)
    assert codes(world) == ["length"] * 4
    assert len(world.backends) == 2


@pytest.mark.parametrize("batching", Batching)
async def test_drain_hands_back_a_claim_under_way(batching: Batching, autojump_clock: MockClock) -> None:
    world, ledger = far_world(batching=batching)
    ledger.beat_s = 0.0  # the drain waits for a beat too, which would hide that the drain does not wait for a claim
    async with world.running():
        await submit_and_wait_for_a_claim(world, ledger, 3)
        await world.batcher_spec.ref.ask(DrainBatcher())
        ledger.far = False
        statistics = await ledger.statistics()
        assert (statistics.running, statistics.queued, statistics.workers) == (0, 3, 0)
        for stream in world.streams:
            assert (await ledger.info(stream.request.id)).attempt == 0
        world.crash(BATCHER)
    assert codes(world) == ["length"] * 3


async def test_stalled_worker_leaves_requests_to_others(autojump_clock: MockClock) -> None:
    """It claims again once no other worker is ready, or once its own backend works again."""
    world = World(MockSettings(step_ms=10))
    async with world.running():
        stalled = BackendStalled(1, "(no upstream gets requests)")
        ready = BackendReady(1, world.backend.capabilities)
        for end_of_stall in ("the others stall too", "the backend works again"):
            world.is_ready_elsewhere = True
            await world.batcher_spec.ref.tell(stalled)
            await wait_all_tasks_blocked()  # the batcher knows of the stall, and claims nothing more
            stream = await world.submit()
            await trio.sleep(10)
            assert (await world.memory.info(stream.request.id)).state == "queued"
            if end_of_stall == "the others stall too":
                world.is_ready_elsewhere = False
            else:
                await world.batcher_spec.ref.tell(ready)
            await trio.sleep(1.5)
            assert stream.code == "length"
