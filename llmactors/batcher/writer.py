"""The writer: appends the tokens of the backend to the ledger, one append at a time.

A backend that steps faster than the ledger answers does not wait: the tokens of all steps during one append go out with
the next append.
"""

from collections.abc import Callable, Sequence

import msgspec
import trio

from llmactors.backends.messages import Key
from llmactors.batcher.claim_trace import ClaimTraces
from llmactors.batcher.outbox import Outbox
from llmactors.batcher.running import Running
from llmactors.ledger import AppendEntry, AppendOutcome, Ledger, ReleaseHow

_OK, _FENCED = AppendOutcome.OK, AppendOutcome.FENCED
"""Read for each token, and an enum takes its time to find a member."""


class Writer:
    """Run `run` as a task.

    Args:
        ledger: The ledger of the logs.
        running: The batcher's requests. The writer removes each one whose terminal event is in the log.
        drop: Called with the requests that the ledger does not want from this worker any more.
        freed: Called after an append that ended or dropped a request, so that a slot may be free.
        traces: The traces of the requests; None where the node exports none.
    """

    def __init__(
        self,
        ledger: Ledger,
        running: dict[Key, Running],
        *,
        drop: Callable[[Sequence[Key]], None],
        freed: Callable[[], None],
        traces: ClaimTraces | None = None,
    ) -> None:
        self._ledger = ledger
        self._running = running
        self._drop = drop
        self._freed = freed
        self._traces = traces
        self.outbox = Outbox()
        """What the next append takes. Call `append_soon` after a `put`."""
        self._filled = trio.Event()
        """Set while the outbox holds something."""
        self._appending = False
        self._progress = trio.lowlevel.ParkingLot()
        """Where tasks wait until the next append begins or ends. An append with nobody here costs nothing for it."""

    def __repr__(self) -> str:
        return f"<Writer {'appends, ' if self._appending else ''}{self.outbox!r}>"

    def append_soon(self) -> None:
        """Has the outbox appended once no other append is under way."""
        if self.outbox:
            self._filled.set()

    async def wait_at_most(self, tokens: int) -> None:
        """Returns once no more than `tokens` tokens wait."""
        while self.outbox.tokens > tokens:
            await self._progress.park()

    async def wait_written(self) -> None:
        """Returns once everything that was put here is in the log."""
        while self._appending or self.outbox:
            await self._progress.park()

    async def run(self) -> None:
        """Appends for ever. Raises what the ledger raises."""
        while True:
            await self._filled.wait()
            self._filled = trio.Event()
            self._appending = True
            entries = self.outbox.take()
            self._note_progress()
            freed = await self._append(entries)
            self._appending = False
            self._note_progress()
            if freed:
                self._freed()

    def _note_progress(self) -> None:
        if self._progress:
            self._progress.unpark_all()

    async def _append(self, entries: list[AppendEntry], *, again: bool = False) -> bool:
        """Appends, and fills gaps of logs with one resend. Returns whether any request has left this worker."""
        if not entries:
            return False
        results = await self._ledger.append(entries)
        if self._traces is not None:
            fenced = (entry for entry, result in zip(entries, results, strict=True) if result.outcome is _FENCED)
            self._traces.lose((entry.request_id, entry.epoch) for entry in fenced)
        gaps: list[AppendEntry] = []
        unwanted: list[Key] = []
        ended = False
        for entry, result in zip(entries, results, strict=True):
            if result.outcome is _OK and entry.end is None:
                continue
            key = entry.request_id, entry.epoch
            if result.outcome is AppendOutcome.GAP:
                if (running := self._running.get(key)) is not None:
                    deltas = running.deltas[result.next_seq - 1 : entry.first_seq - 1 + len(entry.deltas)]
                    gaps.append(msgspec.structs.replace(entry, first_seq=result.next_seq, deltas=deltas))
            elif entry.end is not None:
                ended = self._leave(key) or ended
            else:
                unwanted.append(key)
        self._drop(unwanted)
        if gaps and not again:
            return await self._append(gaps, again=True) or ended or bool(unwanted)
        for entry in gaps:
            # This worker cannot mend the log. The worker that claims the request next continues from what is left.
            key = entry.request_id, entry.epoch
            self._drop([key])
            await self._ledger.release(*key, ReleaseHow.FAILED, "log gap persisted after a resend")
        return ended or bool(unwanted)

    def _leave(self, key: Key) -> bool:
        """Lets go of a request whose terminal event was appended. Returns whether the request was here."""
        if self._traces is not None:
            self._traces.end(key)
        return self._running.pop(key, None) is not None  # the backend has dropped the sequence already
