"""The ledger in one process. `python -m llmactors` runs on it, and other ledgers are compared with it.

No operation is interrupted by the scheduler, so there are no locks. This module checks what a caller may do; then
`Lifecycle` changes the state, which these parts hold:

    ModelQueues  what waits, in fair order             ReaderGrace  which requests have no reader
    Leases       live workers, and what each holds     Archive      what has ended
    Record       one request and its log               Timers       what is due when
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

import attrs
import trio

from llmactors.errors import Expired, NotFound
from llmactors.ledger.core.leases import Worker
from llmactors.ledger.core.lifecycle import Lifecycle
from llmactors.ledger.core.passed_over import PassedOver
from llmactors.ledger.core.queue_sums import QueueSums
from llmactors.ledger.core.record import Record
from llmactors.ledger.follower import LogFollower
from llmactors.ledger.inspection import (
    OPEN_REQUESTS_SEEN,
    OPEN_REQUESTS_SHOWN,
    QueueShare,
    RequestFilter,
    RequestTimes,
    RequestViews,
)
from llmactors.ledger.settings import LedgerSettings
from llmactors.ledger.usage import RECORDS_MAX, UsageBy, UsagePage, UsageReport
from llmactors.ledger.values import (
    AdmitResult,
    AppendEntry,
    AppendOutcome,
    AppendResult,
    BeatResult,
    Candidate,
    Claim,
    ClaimEnd,
    DeadRequest,
    LedgerStatistics,
    LogSlice,
    ModelDemand,
    News,
    Preemption,
    QueueDepth,
    QueuePlace,
    ReleaseHow,
    RequestInfo,
    SlotOffer,
    SubmitOutcome,
    no_such_dead_letter,
)
from llmactors.limiter.charges import Charge, Standing
from llmactors.messages import Failed, GenerateRequest, Terminal

_OK: Final = AppendResult(AppendOutcome.OK)
_FENCED: Final = AppendResult(AppendOutcome.FENCED)
_STOP: Final = AppendResult(AppendOutcome.STOP)
_GONE: Final = AppendResult(AppendOutcome.GONE)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class MemoryLedger:
    """A `Ledger` in this process's memory. Nothing survives the process.

    No method yields to the scheduler, except `wait_work` and the `wait_…` methods of followers. `now` is monotonic, in
    seconds. `wall_ms` is the time since 1970, in milliseconds. A deadline is compared with `wall_ms` once, when its
    request is admitted, so that later jumps of the wall clock change nothing.
    """

    def __init__(
        self,
        settings: LedgerSettings | None = None,
        *,
        now: Callable[[], float] = trio.current_time,
        wall_ms: Callable[[], int] = _wall_ms,
    ) -> None:
        self.settings = settings or LedgerSettings()
        self._now = now
        self._wall_ms = wall_ms
        self._life = Lifecycle(self.settings, now, wall_ms)
        self._records = self._life.records
        self._fenced_total = 0

    def __repr__(self) -> str:
        return f"<MemoryLedger of {self._life!r}>"

    # For gateways.

    async def submit(self, request: GenerateRequest) -> SubmitOutcome:
        return (await self.admit([Candidate(request)])).outcome

    async def admit(self, candidates: Sequence[Candidate]) -> AdmitResult:
        known = [self._outcome_before(candidate.request) for candidate in candidates]
        if any(known):
            if not all(outcome is SubmitOutcome.DUPLICATE for outcome in known):
                return self._result(SubmitOutcome.CONFLICT, candidates, free=True)
            for candidate in candidates:
                if (record := self._records.get(candidate.request.id)) is not None:
                    self._life.restart_grace(record)
            return self._result(SubmitOutcome.DUPLICATE, candidates, free=True)
        if not self._life.queues.has_room_for([candidate.size for candidate in candidates]):
            return self._result(SubmitOutcome.OVERLOADED, candidates, free=True)
        result = self._result(SubmitOutcome.ACCEPTED, candidates)
        if not all(standing.decision.admitted for standing in result.standings):
            return attrs.evolve(result, outcome=SubmitOutcome.LIMITED)
        for candidate in candidates:
            self._life.admit(candidate)
        return result

    async def now_ms(self) -> int:
        return self._wall_ms()

    async def expected_wait_s(self, request: GenerateRequest) -> float:
        return self._life.expected_wait_s(request)

    async def places(self, request_ids: Sequence[str]) -> list[QueuePlace | None]:
        return self._life.places(request_ids)

    async def info(self, request_id: str) -> RequestInfo:
        return self._known(request_id).info()

    async def read(self, request_id: str, after: int = 0) -> LogSlice:
        return self._known(request_id, after).after(after)

    async def follow(self, request_id: str, after: int = 0) -> LogFollower:
        record = self._known(request_id, after)
        return LogFollower(record, after, lambda: self._life.readers_changed(record))

    async def cancel(self, request_id: str) -> bool:
        record = self._known(request_id)
        if record.end is not None:
            return False
        self._life.cancel(record)
        return True

    async def forget(self, request_id: str) -> None:
        record = self._known(request_id)
        if record.end is None:
            self._life.cancel(record)
        if request_id in self._records:  # where nothing is retained, the end of a request has evicted it
            self._life.forget(record)

    # For workers.

    async def beat(self, worker: str) -> BeatResult:
        now = self._now()
        if self._live(worker) is None:
            if self._life.leases.is_dead(worker):
                self._life.heard_again(worker)
                return BeatResult(live=False)
            self._life.replace_namesakes(worker)
        return BeatResult(live=True, stop=self._life.leases.renew(worker, now).stops(now))

    async def leave(self, worker: str) -> None:
        if (lease := self._life.leases.get(worker)) is not None:
            self._life.end_lease(lease, ClaimEnd.LEFT, "the worker left")

    async def claim(self, worker: str, model: str, slots: int, *, hand_out: int = 0) -> list[Claim]:  # noqa: ARG002
        # Nothing is handed out: a claim is a call in this process, and nearly free.
        lease = self._live(worker)
        claims: list[Claim] = []
        if lease is None:
            return claims
        lease.room[model] = 0
        if slots < 1:
            return claims
        lease.changes.clear_work(model)
        if lease.suspects:
            return claims
        passed = PassedOver()
        while len(claims) < slots and (record := self._life.next_for(lease, model, passed)) is not None:
            claims.append(self._life.start(record, lease))
        self._life.put_back_passed_over(lease, passed)
        lease.room[model] = slots - len(claims) if lease.takes_all else 0
        return claims

    def handed(self, worker: str, model: str) -> list[Claim]:  # noqa: ARG002
        return []

    def has_open_slots(self, worker: str, model: str) -> bool:  # noqa: ARG002
        return False

    async def preempt(self, worker: str, model: str, offered: Sequence[SlotOffer]) -> Preemption | None:
        lease = self._live(worker) if offered else None
        return None if lease is None else self._life.preempt(lease, model, offered)

    async def append(self, entries: Sequence[AppendEntry]) -> list[AppendResult]:
        return [self._append(entry) for entry in entries]

    async def finish(self, request_id: str, epoch: int, end: Terminal) -> AppendResult:
        record = self._records.get(request_id)
        if record is None:
            return _GONE
        return self._append(AppendEntry(request_id, epoch, len(record.tokens) + 1, end=end))

    async def release(self, request_id: str, epoch: int, how: ReleaseHow, cause: str = "") -> AppendResult:
        record = self._records.get(request_id)
        if record is None:
            return _GONE
        if record.holder is None or record.epoch != epoch:
            return self._refuse(record, epoch)
        if (lease := self._life.leases.get(record.holder)) is not None:
            lease.room.clear()  # the worker drains, or its backend died: it has no room until it claims again
        match how:
            case ReleaseHow.SILENT:
                self._life.hand_back(record, detail=cause)
            case ReleaseHow.FAILED:
                self._life.crash(record, ClaimEnd.CRASHED, cause)
            case ReleaseHow.FATAL:
                self._life.give_up(record, Failed("BACKEND_FAILED", cause), cause, by_epoch=record.epoch)
        return _OK

    async def wait_work(self, worker: str, model: str) -> News:
        lease = self._live(worker)
        if lease is None:
            await trio.lowlevel.checkpoint()
            return News.STOP
        return await lease.changes.wait(model)

    async def demand(self, models: Sequence[str]) -> list[ModelDemand]:
        now = self._now()
        return sorted(
            ModelDemand(model, entry.priority, count, now - self._records[entry.key].queued_at)
            for model in models
            for entry, count in self._life.queues.first_come(model)
        )

    # For any node.

    @property
    def due_in_s(self) -> float:
        return self._life.first_due() - self._now()

    async def reap(self) -> int:
        now = self._now()
        touched = 0
        while (lease := self._life.leases.first_overdue(now)) is not None:
            touched += self._life.lose_lease(lease)
        for record in self._life.pop_overdue():
            self._life.expire(record)
            touched += 1
        for record in self._life.pop_abandoned():
            self._life.cancel(record)
            touched += 1
        for lease in self._life.leases:
            lease.forget_stops(now)
        self._life.conversations.forget_old(now)
        self._life.usage.forget_old(self._life.now_us() // 1000)
        return touched + self._life.evict()

    async def statistics(self) -> LedgerStatistics:
        life = self._life
        return LedgerStatistics(
            queued=life.queues.queued,
            running=life.running,
            ended=len(life.archive),
            queued_bytes=life.queues.queued_bytes,
            log_tokens=life.log_tokens,
            workers=len(life.leases),
            dead_letters=len(life.dead_letters),
            quarantined=life.quarantined,
            accepted_total=life.accepted_total,
            ended_total=life.ended_total,
            requeued_total=life.requeued_total,
            fenced_total=self._fenced_total,
        )

    async def take_new_dead_letters(self) -> list[DeadRequest]:
        return self._life.take_new_dead_letters()

    # For operators.

    async def queue_depths(self) -> list[QueueDepth]:
        waiting = Counter(
            (record.request.model, record.request.priority)
            for record in self._records.values()
            if record.state == "queued"
        )
        return sorted(QueueDepth(model, priority, count) for (model, priority), count in waiting.items())

    async def open_requests(self, wanted: RequestFilter, limit: int) -> RequestViews:
        now, found = self._now(), []
        for record in islice(self._life.open.values(), OPEN_REQUESTS_SEEN):
            request = record.request
            if wanted.takes(record.state, request.tenant, request.model):
                found.append(record)
        shown = found[: min(limit, OPEN_REQUESTS_SHOWN)]
        return RequestViews(tuple(record.view(now) for record in shown), len(found))

    async def request_times(self, request_id: str) -> RequestTimes:
        return self._known(request_id).times(self._now())

    async def queue_shares(self, models: Sequence[str]) -> list[QueueShare]:
        now, sums, wanted = self._now(), QueueSums(), frozenset(models)
        for record in islice(self._life.open.values(), OPEN_REQUESTS_SEEN):
            if record.holder is None and record.request.model in wanted:
                request = record.request
                key = request.model, request.priority, request.tenant
                sums.add(key, record.queue_entry.cost, now - record.queued_at)
        return sums.shares()

    async def standings(self, charges: Sequence[Charge]) -> list[Standing]:
        return self._life.limits.look(charges, self._life.now_us(), free=True)

    async def dead_letters(self) -> list[DeadRequest]:
        return list(self._life.dead_letters)

    async def requeue(self, request_id: str, new_id: str) -> SubmitOutcome:
        letter = next((each for each in self._life.dead_letters if each.request.id == request_id), None)
        if letter is None:
            if new_id in self._records or new_id in self._life.archive:
                return SubmitOutcome.DUPLICATE
            raise no_such_dead_letter(request_id)
        again = letter.resubmission(new_id)
        outcome = self._outcome_before(again) or await self.submit(again)
        if outcome is SubmitOutcome.ACCEPTED:
            self._life.dead_letters.remove(letter)
        return outcome

    async def usage_records(self, since_ms: int, until_ms: int, after: str = "", limit: int = RECORDS_MAX) -> UsagePage:
        return self._life.usage.page(since_ms, until_ms, after, limit)

    async def usage_report(self, since_ms: int, until_ms: int, by: UsageBy) -> UsageReport:
        return self._life.usage.report(since_ms, until_ms, by, self._life.now_us() // 1000)

    async def purge(self, request_id: str | None = None) -> int:
        letters = self._life.dead_letters
        purged = [each for each in letters if request_id in {None, each.request.id}]
        for letter in purged:
            letters.remove(letter)
        return len(purged)

    # What callers may do.

    def _outcome_before(self, request: GenerateRequest) -> SubmitOutcome | None:
        """The outcome of a submit whose id is known already; None for a new id."""
        record = self._records.get(request.id)
        if record is not None:
            return SubmitOutcome.DUPLICATE if record.request == request else SubmitOutcome.CONFLICT
        return self._life.archive.outcome(request)

    def _result(self, outcome: SubmitOutcome, candidates: Sequence[Candidate], *, free: bool = False) -> AdmitResult:
        charges = [charge for candidate in candidates for charge in candidate.charges]
        standings = self._life.limits.look(charges, self._life.now_us(), free=free) if charges else ()
        return AdmitResult(outcome, tuple(standings))

    def _append(self, entry: AppendEntry) -> AppendResult:
        record = self._records.get(entry.request_id)
        if record is None:
            return _GONE
        # The epoch decides, not the time: a worker whose lease is overdue may write until the lease is ended.
        if record.holder is None or record.epoch != entry.epoch:
            return self._refuse(record, entry.epoch, entry)
        if not self._life.extend(record, entry.first_seq, entry.deltas):
            return AppendResult(AppendOutcome.GAP, len(record.tokens) + 1)
        if entry.end is not None:
            self._life.end(record, entry.end, by_epoch=entry.epoch)
        return _OK

    def _refuse(self, record: Record, epoch: int, entry: AppendEntry | None = None) -> AppendResult:
        """The answer to a writer whose claim is over. Only a repeated terminal event is accepted."""
        if record.epoch != epoch or record.end is None:
            self._fenced_total += 1
            return _FENCED
        if (
            entry is not None
            and record.ended_by == epoch
            and entry.end == record.end
            and entry.first_seq + len(entry.deltas) == record.last_seq
        ):
            return _OK
        return _STOP

    def _known(self, request_id: str, after: int = 0) -> Record:
        if after < 0:
            raise ValueError(f"seq counts from 1, so nothing is after {after}")
        if (record := self._records.get(request_id)) is not None:
            return record
        raise Expired if request_id in self._life.archive else NotFound("there is no such stream")

    def _live(self, worker: str) -> Worker | None:
        """The worker, if its lease is live. An overdue lease ends here, even if nobody has reaped yet."""
        lease = self._life.leases.get(worker)
        if lease is not None and lease.due <= self._now():
            self._life.lose_lease(lease)
            return None
        return lease
