"""The writer alone: tokens that are put during one append go out with the next, once and in order."""

from collections.abc import Sequence

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from llmactors.backends.base import Output
from llmactors.backends.messages import Key
from llmactors.batcher.running import Running
from llmactors.batcher.writer import Writer
from llmactors.ledger import AppendEntry, AppendOutcome, AppendResult, Claim, MemoryLedger, ReleaseHow
from llmactors.messages import GenerateRequest, TokenDelta

APPEND_S = 1.0


class RecordingLedger(MemoryLedger):
    """Records appends and releases. An append takes `APPEND_S`, and its results can be set."""

    def __init__(self) -> None:
        super().__init__()
        self.appends: list[list[AppendEntry]] = []
        self.results: dict[str, list[AppendResult]] = {}
        """The next results by request. Without one, an entry is OK."""
        self.releases: list[tuple[str, ReleaseHow, str]] = []

    async def append(self, entries: Sequence[AppendEntry]) -> list[AppendResult]:
        self.appends.append(list(entries))
        await trio.sleep(APPEND_S)
        ok = AppendResult(AppendOutcome.OK)
        return [self.results[each.request_id].pop(0) if self.results.get(each.request_id) else ok for each in entries]

    async def release(self, request_id: str, epoch: int, how: ReleaseHow, cause: str = "") -> AppendResult:
        await trio.lowlevel.checkpoint()
        self.releases.append((request_id, how, cause))
        return AppendResult(AppendOutcome.OK)


class Desk:
    """A writer, its ledger and the requests that a batcher would hold."""

    def __init__(self) -> None:
        self.ledger = RecordingLedger()
        self.running: dict[Key, Running] = {}
        self.dropped: list[Key] = []
        self.freed = 0
        self.writer = Writer(self.ledger, self.running, drop=self._drop, freed=self._note_freed)

    def open(self, name: str) -> Running:
        claim = Claim(GenerateRequest(name, "m", "p"), epoch=1, attempt=1, quarantined=False, tokens=())
        running = Running(claim)
        self.running[running.key] = running
        return running

    def make(self, running: Running, count: int, *, end: bool = False) -> None:
        deltas = tuple(TokenDelta(number, "x") for number in range(count))
        running.produced(Output(running.key, deltas, "stop" if end else None))
        self.writer.outbox.put({running: None}, count)
        self.writer.append_soon()

    def _drop(self, keys: Sequence[Key]) -> None:
        for key in keys:
            self.dropped.append(key)
            self.writer.outbox.drop(self.running.pop(key))

    def _note_freed(self) -> None:
        self.freed += 1


def sizes(append: list[AppendEntry]) -> dict[str, tuple[int, int]]:
    """The first seq and the number of tokens of each entry, by request."""
    return {entry.request_id: (entry.first_seq, len(entry.deltas)) for entry in append}


async def test_tokens_put_during_an_append_wait_for_the_next(autojump_clock: MockClock) -> None:
    desk = Desk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.writer.run)
        a, b = desk.open("a"), desk.open("b")
        desk.make(a, 2)
        await wait_all_tasks_blocked()
        for _ in range(3):
            desk.make(a, 1)
            desk.make(b, 1, end=False)
        assert desk.writer.outbox.tokens == 6
        await desk.writer.wait_written()
        assert trio.current_time() == 2 * APPEND_S
        assert [sizes(append) for append in desk.ledger.appends] == [{"a": (1, 2)}, {"a": (3, 3), "b": (1, 3)}]
        assert desk.freed == 0
        nursery.cancel_scope.cancel()


async def test_wait_at_most_ends_with_the_append(autojump_clock: MockClock) -> None:
    desk = Desk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.writer.run)
        a = desk.open("a")
        desk.make(a, 1)
        await wait_all_tasks_blocked()
        desk.make(a, 10)
        await desk.writer.wait_at_most(10)
        assert trio.current_time() == 0
        await desk.writer.wait_at_most(9)
        assert trio.current_time() == APPEND_S
        nursery.cancel_scope.cancel()


async def test_end_in_the_log_frees_a_slot(autojump_clock: MockClock) -> None:
    desk = Desk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.writer.run)
        desk.make(desk.open("a"), 1, end=True)
        desk.make(desk.open("b"), 1)
        await desk.writer.wait_written()
        assert [key[0] for key in desk.running] == ["b"]
        assert (desk.freed, desk.dropped) == (1, [])
        nursery.cancel_scope.cancel()


async def test_gap_is_filled_by_one_resend(autojump_clock: MockClock) -> None:
    desk = Desk()
    desk.ledger.results = {"a": [AppendResult(AppendOutcome.OK), AppendResult(AppendOutcome.GAP, 2)]}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.writer.run)
        a = desk.open("a")
        desk.make(a, 3)
        await desk.writer.wait_written()
        desk.make(a, 1)
        await desk.writer.wait_written()
        assert [sizes(append)["a"] for append in desk.ledger.appends] == [(1, 3), (4, 1), (2, 3)]
        assert (desk.dropped, desk.ledger.releases) == ([], [])
        nursery.cancel_scope.cancel()


async def test_gap_that_persists_hands_the_request_back(autojump_clock: MockClock) -> None:
    desk = Desk()
    desk.ledger.results = {"a": [AppendResult(AppendOutcome.GAP, 1)] * 2}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.writer.run)
        desk.make(desk.open("a"), 3)
        await desk.writer.wait_written()
        assert desk.dropped == [("a", 1)]
        assert desk.ledger.releases == [("a", ReleaseHow.FAILED, "log gap persisted after a resend")]
        nursery.cancel_scope.cancel()
