"""A claimer whose model has left the memory goes on as another worker of the ledger."""

import trio
from trio.testing import MockClock

from llmactors.batcher.claimer import Claimer
from llmactors.batcher.free_slots import FreeSlots
from llmactors.ledger import BeatResult, Claim, MemoryLedger


class SlowLedger(MemoryLedger):
    """A ledger whose answers to beats may take long."""

    answer_s = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.left: list[str] = []

    async def beat(self, worker: str) -> BeatResult:
        await trio.sleep(self.answer_s)
        return await super().beat(worker)

    async def leave(self, worker: str) -> None:
        self.left.append(worker)
        await super().leave(worker)


async def _take(claims: list[Claim]) -> None:
    assert claims == []


async def test_late_answer_to_the_worker_before_changes_nothing(autojump_clock: MockClock) -> None:
    ledger, losses = SlowLedger(), list[str]()
    claimer = Claimer(
        ledger,
        "m",
        node="n",
        beat_every_s=1.0,
        free_slots=lambda: FreeSlots(0, 0, None),
        room=lambda: 0,
        begin=_take,
        hand_back=_take,
        stop=lambda keys: None,
        lose=lambda: losses.append("lost"),
    )
    await claimer.join(1)
    before = claimer.worker
    async with trio.open_nursery() as nursery:
        for task in claimer.tasks:
            nursery.start_soon(task)
        ledger.answer_s = 0.3
        await trio.sleep(1.1)  # a beat is under way
        ledger.answer_s = 0.0
        await claimer.join_anew()
        anew = claimer.worker
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    assert (losses, ledger.left, claimer.worker) == ([], [before], anew)
    assert (await ledger.beat(anew)).live
