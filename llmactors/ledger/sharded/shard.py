"""One shard as the ledger of all shards sees it: whether it answers, and what it is yet to be told.

While a shard is away, the workers go on with what they have from the other shards. What a worker says meanwhile of the
requests of this shard is kept here in its order, and is said once the shard is back. The worker is told that all went
well; what the shard answers later to the contrary is in `refused`, for the worker's next append or beat. Nothing that
is kept here was shown to a client, since readers read the log. So where the process ends before the shard is back, its
requests go on from their logs elsewhere, as after any death of a worker.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import attrs
import trio

from llmactors.ledger.contract import Ledger
from llmactors.ledger.values import AppendEntry, AppendOutcome, AppendResult, QueueView, ReleaseHow

T = TypeVar("T")

PATIENCE_S = 0.5
"""How long an operation waits for a shard that does not answer, in seconds. After that the shard counts as away."""
_OK = AppendResult(AppendOutcome.OK)
_NOT_IN_LOG = {AppendOutcome.FENCED, AppendOutcome.STOP, AppendOutcome.GONE, AppendOutcome.GAP}
_REFUSED_KEPT = 4096

Key = tuple[str, int]
"""The id of a request, and the epoch of its claim."""


class ShardLedger(Ledger, Protocol):
    """A ledger that can be a shard."""

    @property
    def is_up(self) -> bool:
        """Whether the ledger can be asked now, as far as this process knows."""
        ...

    async def wait_up(self) -> None:
        """Returns once the ledger can be asked."""
        ...

    async def queue_view(self, worker: str, model: str) -> QueueView:
        """What a worker that claims for a model wants to know of the queues, which hear of the worker by this."""
        ...


@attrs.define(eq=False)
class Shard:
    """A ledger, and the operations of this process's workers that it is yet to be told. Run `run` as a task."""

    number: int
    ledger: ShardLedger
    patience_s: float = PATIENCE_S
    """How long an operation waits for the shard, in seconds."""
    refused: dict[Key, AppendResult] = attrs.field(factory=dict)
    """What a kept append was answered, where that was not OK."""
    on_return: Callable[[], None] = lambda: None
    """Called when a slow shard answers again, or was told what was kept."""
    _kept: list[Callable[[], Awaitable[None]]] = attrs.field(factory=list)
    _keeps: trio.Event = attrs.field(factory=trio.Event)
    _is_slow: bool = False
    _slowed: trio.Event = attrs.field(factory=trio.Event)
    _nursery: trio.Nursery | None = None
    """Runs what outlives an operation; None before `run`."""

    @property
    def answers(self) -> bool:
        """Whether the shard is up and answered the last operation in time."""
        return self.ledger.is_up and not self._is_slow

    @property
    def kept(self) -> int:
        """How many operations the shard is yet to be told."""
        return len(self._kept)

    async def run(self) -> None:
        """Says what is kept once the shard is back, and finds out whether a slow shard answers again. For ever."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._say_what_is_kept)
                while True:
                    if not self._is_slow:  # it may be slow from the start, where an earlier call of this ended
                        await self._slowed.wait()
                    self._slowed = trio.Event()
                    await self.ledger.wait_up()
                    await self.ledger.reap()  # waits until the shard answers; any node may reap at any time
                    self._is_slow = False
                    self.on_return()
        finally:
            self._nursery = None

    async def ask(self, operation: Callable[[], Awaitable[T]], times: float = 1.0) -> T | None:
        """The answer of the shard; None where it is away, or does not answer within so many times its patience."""
        if not self.answers:
            return None
        with trio.move_on_after(times * self.patience_s):
            return await operation()
        self.note_slow()
        return None

    async def ask_to_the_end(self, operation: Callable[[], Awaitable[T]], late: Callable[[T], None]) -> T | None:
        """As `ask`, for what a shard gives to a worker or takes from one: were the answer lost, both would wait for the
        worker. So the operation is given up only with `run`, and `late` is called with an answer that does not come in
        time.
        """
        if not self.answers:
            return None
        if self._nursery is None:
            return await operation()
        answers: list[T] = []
        answered = trio.Event()
        is_late = False

        async def answer() -> None:
            try:
                found = await operation()
                if is_late:
                    late(found)
                else:
                    answers.append(found)
            finally:
                answered.set()

        self._nursery.start_soon(answer)
        try:
            with trio.move_on_after(self.patience_s):
                await answered.wait()
        finally:
            is_late = not answers  # also where the worker's call is cancelled
        if answers:
            return answers[0]
        self.note_slow()
        return None

    def note_slow(self) -> None:
        """Notes that the shard did not answer in time. It counts as away until it answers again."""
        self._is_slow = True
        self._slowed.set()

    async def append(self, entries: Sequence[AppendEntry]) -> Sequence[AppendResult]:
        """As `Ledger.append`. The entries are kept, and count as written, while the shard is away."""
        if not self._kept:
            results = await self.ask(lambda: self.ledger.append(entries))
            if results is not None:
                return results
        self._keep(lambda: self._append_kept(entries))
        return [self.refused.pop((each.request_id, each.epoch), _OK) for each in entries]

    async def tell(self, key: Key, operation: Callable[[], Awaitable[AppendResult]]) -> AppendResult:
        """As the operation, which is about the claim `key`. While the shard is away: OK, and the operation is kept."""
        if not self._kept:
            result = await self.ask(operation)
            if result is not None:
                return result
        self._keep(lambda: self._tell_kept(operation))
        return self.refused.pop(key, _OK)

    async def tell_gone(self, worker: str) -> None:
        """Tells the shard that a worker leaves, now or when the shard is back."""
        if self._kept or await self.ask(lambda: _done(self.ledger.leave(worker))) is None:
            self._keep(lambda: self.ledger.leave(worker))

    def _keep(self, operation: Callable[[], Awaitable[None]]) -> None:
        self._kept.append(operation)
        self._keeps.set()

    async def _say_what_is_kept(self) -> None:
        while True:
            if not self._kept:  # there may be something from the start, where an earlier call of `run` ended
                await self._keeps.wait()
            self._keeps = trio.Event()
            while self._kept:
                await self._kept[0]()  # waits until the shard is back
                del self._kept[0]
            self.on_return()

    async def _tell_kept(self, operation: Callable[[], Awaitable[AppendResult]]) -> None:
        await operation()

    async def _append_kept(self, entries: Sequence[AppendEntry]) -> None:
        results = await self.ledger.append(entries)
        for entry, result in zip(entries, results, strict=True):
            if result.outcome not in _NOT_IN_LOG:
                continue
            if result.outcome is AppendOutcome.GAP:
                # The shard has lost tokens that it had acknowledged, and their worker may not have them any more.
                await self.ledger.release(entry.request_id, entry.epoch, ReleaseHow.SILENT, "the log has a gap")
                result = AppendResult(AppendOutcome.FENCED)  # noqa: PLW2901
            if entry.end is None and len(self.refused) < _REFUSED_KEPT:
                self.refused[entry.request_id, entry.epoch] = result


async def _done(operation: Awaitable[None]) -> bool:
    await operation
    return True
