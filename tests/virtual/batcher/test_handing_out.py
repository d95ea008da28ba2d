"""What a batcher does with requests that the ledger hands to it, and when it leaves slots open for them."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from llmactors.backends.mock.backend import MockSettings
from llmactors.batcher.messages import DrainBatcher
from llmactors.batcher.recent_peak import RecentPeak
from llmactors.ledger import AdmitResult, AppendResult, Candidate, Claim, MemoryLedger, ReleaseHow
from tests.virtual.batcher.conftest import MODEL, CountingLedger, World, codes


class HandingLedger(CountingLedger):
    """A ledger that hands requests to the one worker with open slots, and tells that worker of nothing else."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.open: dict[str, int] = {}
        self.given: list[Claim] = []
        self.asked: list[tuple[int, int]] = []
        self.released: list[ReleaseHow] = []

    async def claim(self, worker: str, model: str, slots: int, *, hand_out: int = 0) -> list[Claim]:
        self.asked.append((slots, hand_out))
        claims = [*self.handed(worker, model), *await super().claim(worker, model, slots)]
        still = min(hand_out, slots - len(claims))
        self.open = {worker: still} if still > 0 else {}
        return claims

    async def admit(self, candidates: Sequence[Candidate]) -> AdmitResult:
        result = await super().admit(candidates)
        for worker, slots in list(self.open.items()):
            claims = await MemoryLedger.claim(self, worker, MODEL, slots)
            self.open = {worker: slots - len(claims)} if slots > len(claims) else {}
            self.given += claims
            lease = self._life.leases.get(worker)
            assert lease is not None
            lease.changes.clear_work(MODEL)
            lease.changes.notify_handed(MODEL)
        return result

    async def release(self, request_id: str, epoch: int, how: ReleaseHow, cause: str = "") -> AppendResult:
        self.released.append(how)
        self.open = {}
        return await super().release(request_id, epoch, how, cause)

    def handed(self, worker: str, model: str) -> list[Claim]:
        given, self.given = self.given, []
        return given

    def has_open_slots(self, worker: str, model: str) -> bool:
        return worker in self.open


def handing_world(slots: int = 16) -> tuple[World, HandingLedger]:
    world = World(MockSettings(step_ms=10, slots=slots), ledger=HandingLedger)
    assert isinstance(world.memory, HandingLedger)
    return world, world.memory


async def test_handed_request_needs_no_claim(autojump_clock: MockClock) -> None:
    world, ledger = handing_world()
    async with world.running():
        await world.until(lambda: bool(ledger.open))
        before = ledger.claims
        stream = await world.submit()
        await stream.done.wait()
        assert stream.times[0] - stream.submitted_at == pytest.approx(0.01)
        assert ledger.claims == before
    assert codes(world) == ["length"]


async def test_busy_worker_claims(autojump_clock: MockClock) -> None:
    """Requests that are handed out one by one run one by one."""
    world, ledger = handing_world()
    async with world.running():
        await world.until(lambda: bool(ledger.open))
        streams = [await world.submit(max_tokens=400) for _ in range(9)]
        await world.until(lambda: all(stream.tokens for stream in streams))
        await trio.sleep(1.5)
        assert ledger.asked[-1] == (7, 0)
        for stream in streams:
            await stream.done.wait()
        await trio.sleep(3)
        assert ledger.asked[-1] == (16, 8), "the worker is busy for ever"


async def test_handed_request_outlives_a_drain(autojump_clock: MockClock) -> None:
    """The worker hands back what comes while the worker drains, and the attempt does not count."""
    world, ledger = handing_world()
    async with world.running():
        await world.until(lambda: bool(ledger.open))
        stream = await world.submit()  # handed out, and not looked at yet
        await world.batcher_spec.ref.ask(DrainBatcher())
        info = await ledger.info(stream.request.id)
        assert (info.state, info.attempt) == ("queued", 0)
        assert ledger.released == [ReleaseHow.SILENT]
        assert not ledger.open
        await ledger.cancel(stream.request.id)


def test_peak_is_forgotten_after_two_windows() -> None:
    peak = RecentPeak(0.5)
    peak.note(9, 10.0)
    peak.note(2, 10.4)
    assert peak.highest(10.6) == 9
    assert peak.highest(11.2) == 0
