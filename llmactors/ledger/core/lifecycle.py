"""Every change of a request's state. Who may ask for a change is decided elsewhere. Pure: the caller passes the clocks.

A record is in one of three places, and only `_detach` takes it out of one:

    a queue, or reserved for a worker   state `queued`
    held by a worker                    state `running`
    the archive, until it is evicted    state `ended`
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from llmactors.ledger.core.archive import Archive
from llmactors.ledger.core.conversations import Conversations
from llmactors.ledger.core.leases import Leases, Worker
from llmactors.ledger.core.model_queues import ModelQueues, queue_entry
from llmactors.ledger.core.passed_over import PassedOver
from llmactors.ledger.core.preemption import Preemptions
from llmactors.ledger.core.reader_grace import ReaderGrace
from llmactors.ledger.core.record import Record
from llmactors.ledger.core.service_rate import ServiceRate
from llmactors.ledger.core.silence import Loss, SilentWorkers
from llmactors.ledger.core.timers import Timers
from llmactors.ledger.core.usage import UsageBook, code_of
from llmactors.ledger.settings import LedgerSettings
from llmactors.ledger.usage import UsageRecord
from llmactors.ledger.values import Candidate, Claim, ClaimEnd, DeadRequest, Preemption, QueuePlace, SlotOffer
from llmactors.limiter.policy import to_us
from llmactors.limiter.store import LimiterStore
from llmactors.limiter.used import Used
from llmactors.messages import Failed, Finished, GenerateRequest, Terminal, TokenDelta, Usage

SILENT_ATTEMPTS_MAX = 3
"""A request that ran alone is given up when so many of its workers have fallen silent, and none has beaten since."""
STOP_REPEATED_S = 5.0
"""A worker whose lease never ends is told of a stop for this long. After that its appends are answered with STOP."""


class Lifecycle:
    """All records, the place of each, and the counts over them.

    `now` is monotonic, in seconds, and decides when anything is due. `wall_ms` is the time since 1970, in milliseconds;
    a deadline is compared with it once, when its request is admitted.
    """

    def __init__(self, settings: LedgerSettings, now: Callable[[], float], wall_ms: Callable[[], int]) -> None:
        self._settings = settings
        self._now = now
        self._wall_ms = wall_ms
        self._stop_repeated_s = settings.lease_s if math.isfinite(settings.lease_s) else STOP_REPEATED_S
        self._epoch_us: int | None = None
        self.records: dict[str, Record] = {}
        self.open: dict[str, Record] = {}
        """The requests that have not ended, oldest first."""
        self.queues = ModelQueues(settings)
        self.conversations = Conversations(settings.conversations_max, settings.conversation_kept_s)
        self._preemptions = Preemptions(settings)
        self.leases = Leases(settings.lease_s, settings.dead_workers_kept)
        self.silent = SilentWorkers(settings.dead_workers_kept)
        self.reader_grace = ReaderGrace()
        self.archive = Archive(settings)
        self.limits = LimiterStore()
        self.usage = UsageBook(settings)
        self.dead_letters: deque[DeadRequest] = deque(maxlen=settings.dead_letters_kept)
        self._new_dead_letters: deque[DeadRequest] = deque(maxlen=settings.dead_letters_kept)
        """Those that `take_new_dead_letters` has not returned yet."""
        self._deadlines = Timers()
        self._rates: dict[str, ServiceRate] = {}
        self.running = 0
        self.quarantined = 0
        self.log_tokens = 0
        self.accepted_total = 0
        self.ended_total = 0
        self.requeued_total = 0

    def __repr__(self) -> str:
        return (
            f"<Lifecycle: {self.queues.queued} queued, {self.running} running, {len(self.archive)} ended, "
            f"{len(self.leases)} workers>"
        )

    def now_us(self) -> int:
        """The time that limits are counted by: since 1970, so that days are calendar days, but monotonic."""
        now_us = to_us(self._now())
        if self._epoch_us is None:
            self._epoch_us = self._wall_ms() * 1000 - now_us
        return self._epoch_us + now_us

    # Into the queue, and to a worker.

    def admit(self, candidate: Candidate) -> None:
        """Adds a new request to its queue, starts its grace, and charges its caller, within limits or beyond them."""
        request = candidate.request
        record = Record(request.id, request, queue_entry(request, candidate.size), candidate.size)
        self.records[request.id] = self.open[request.id] = record
        record.admitted_at, record.admitted_ms = self._now(), self._wall_ms()
        if candidate.charges:
            record.holds = self.limits.charge(request.id, candidate.charges, self.now_us())
        self.accepted_total += 1
        record.due = self._due(request)
        if math.isfinite(record.due):
            self._deadlines.set(request.id, record.due)
        self.restart_grace(record)
        self._enqueue(record)

    def restart_grace(self, record: Record) -> None:
        """The request was submitted, perhaps again."""
        self.reader_grace.readers_changed(record, self._now())

    def readers_changed(self, record: Record) -> None:
        """A follower of the request was opened or closed."""
        self.restart_grace(record)
        if record.end is not None:
            record.read_at = self._now()

    def next_for(self, lease: Worker, model: str, passed: PassedOver) -> Record | None:
        """The request that `lease` starts next, if any. May reserve a suspect for it, and ends overdue requests.

        Adds the requests that prefer another worker to `passed`. The caller puts them back after its last call.
        """
        if lease.suspects >= lease.suspects_max > 0 or (lease.reserved is not None and lease.held):
            return None
        while (request_id := lease.reserved or self.queues.take(model)) is not None:
            record = self.records[request_id]
            if record.due <= self._now():
                self.expire(record)
            elif record.request.model != model:
                return None
            elif (other := self._preferred(record, lease)) is not None and passed.has_room(other, model):
                passed.add(record, other)
                self.queues.pass_over(record)
            elif lease.suspects and not self._may_join(record, lease):
                self.queues.put_back(record)
                return None
            elif record.quarantined and lease.held and not lease.suspects:
                # A suspect might never meet an empty worker, so this worker is reserved for it and takes nothing else.
                lease.reserved, record.reserved_for = request_id, lease.id
                return None
            else:
                return record
        return None

    def put_back_passed_over(self, lease: Worker, passed: PassedOver) -> None:
        """Puts back what a claim has passed over, and has the worker look again when the first preference ends."""
        if not passed.records:
            return
        for record in passed.records:
            self.queues.put_back_unserved(record)
            self._rates.setdefault(record.request.model, ServiceRate(record.queued_at))
        first = min(record.queued_at for record in passed.records)
        lease.changes.look_again(max(0.0, first + self._settings.affinity_wait_s - self._now()))

    def start(self, record: Record, lease: Worker) -> Claim:
        """Hands a waiting request to `lease` under a new epoch."""
        if record.request.conversation and self._settings.affinity_wait_s:
            self.conversations.note(record.request.model, record.request.conversation, lease.id, self._now())
        self._detach(record)
        record.claimed_at = self._now()
        record.queue_s += record.claimed_at - record.queued_at
        record.epoch += 1
        record.attempt += 1
        record.claimed += 1
        record.claimed_tokens = len(record.tokens)
        record.holder = lease.id
        if record.quarantined:
            lease.hold_suspect(record.request.id, self._settings.together(record.attempt))
        else:
            lease.hold(record.request.id)
        self.running += 1
        self._note_claim(record.request.model)
        waited_s = record.claimed_at - record.queued_at
        tokens, earlier = tuple(record.tokens), tuple(record.claims)
        record.note_claim(lease.id, self._wall_ms())
        return Claim(record.request, record.epoch, record.attempt, record.quarantined, tokens, waited_s, earlier)

    def preempt(self, lease: Worker, model: str, offered: Sequence[SlotOffer]) -> Preemption | None:
        """Lets a request that `lease` runs change places with a waiting request of a more urgent class, if one has
        waited for too long. `offered` has what the worker would give up, the best one first.
        """
        if not lease.takes_all:
            return None
        heads = [self.records[request_id] for request_id in self.queues.heads(model)]
        known = ((self.records.get(offer.request_id), offer) for offer in offered)
        running = [
            record
            for record, offer in known
            if record is not None
            and (record.holder, record.epoch, record.request.model) == (lease.id, offer.epoch, model)
            and len(record.tokens) <= offer.tokens
            and self._preemptions.may_give_way(record)
        ]
        pair = self._preemptions.choose(model, heads, running, self._now())
        if pair is None:
            return None
        urgent, given = pair
        self._preemptions.note(model, given, self._now())
        self.queues.take_head(urgent)
        key = given.request.id, given.epoch
        self.hand_back(given, ClaimEnd.PREEMPTED)
        return Preemption(key, self.start(urgent, lease))

    def expected_wait_s(self, request: GenerateRequest) -> float:
        """How long `request` would wait if it came now, in seconds; 0 where too little is known."""
        rate = self._rates.get(request.model)
        per_second = None if rate is None else rate.per_second(self._now())
        return self.queues.ahead_of(request) / per_second if per_second else 0.0

    def places(self, request_ids: Sequence[str]) -> list[QueuePlace | None]:
        """The place of each request in its queue; None for a request that does not wait."""
        records = [self.records.get(request_id) for request_id in request_ids]
        waiting = {
            each.request.id: each.request.model for each in records if each is not None and each.state == "queued"
        }
        found = dict(pair for model in set(waiting.values()) for pair in self.queues.places(model))
        # A request that is reserved for a worker is in no queue: it is the next request of that worker.
        return [self._place(waiting[each], found.get(each, 1)) if each in waiting else None for each in request_ids]

    def _place(self, model: str, place: int) -> QueuePlace:
        rate = self._rates.get(model)
        per_second = None if rate is None else rate.per_second(self._now())
        return QueuePlace(model, place, place / per_second if per_second else None)

    def extend(self, record: Record, first_seq: int, deltas: Sequence[TokenDelta]) -> bool:
        """Writes the new tokens to the log; False where `first_seq` leaves a hole."""
        added = record.extend(first_seq, deltas)
        if added is None:
            return False
        self.log_tokens += added
        if first_seq == 1 and added and record.first_token_ms is None:
            record.first_token_ms = self._wall_ms()
        return True

    # Back to the queue.

    def hand_back(self, record: Record, ended: ClaimEnd = ClaimEnd.HANDED_BACK, detail: str = "") -> None:
        """Puts back a request whose worker drains or never started it: the attempt does not count."""
        record.note_claim_end(ended, detail)
        self._detach(record)
        record.attempt -= 1
        self._enqueue(record)

    def crash(self, record: Record, ended: ClaimEnd, cause: str) -> None:
        """Puts back a request whose worker or backend died; a suspect that ran alone becomes a dead letter."""
        record.note_claim_end(ended, cause)
        if self._has_got_further(record):
            record.attempt -= 1
            self._put_back(record)
        elif self._runs_alone(record) and record.deaths + 1 >= self._settings.quarantine_from_attempt:
            message = (
                f"the backend or worker crashed in all {record.attempt} attempts; in the last, this request ran alone"
            )
            self.give_up(record, Failed("POISONED", message), cause, by_epoch=record.epoch)
        else:
            self._put_back(record)

    def end_lease(self, lease: Worker, ended: ClaimEnd, cause: str) -> int:
        """Ends the lease of a worker that is dead, as was seen. Returns how many requests the worker held."""
        held = [self.records[request_id] for request_id in lease.held]
        for record in held:
            self.crash(record, ended, cause)
        self._close_lease(lease)
        return len(held)

    def lose_lease(self, lease: Worker) -> int:
        """Ends the lease of a worker that fell silent. Returns how many requests the worker held.

        The requests go on elsewhere. Their attempts count only if other workers beat at that time, and only until this
        worker beats again.
        """
        charged = self.leases.others_beat(self._now())
        held = [self.records[request_id] for request_id in lease.held]
        for record in held:
            record.note_claim_end(ClaimEnd.SILENT, "the worker's lease ended")
            if self._has_got_further(record):
                record.attempt -= 1
                self._put_back(record)
                continue
            loss = Loss(charged, alone=self._runs_alone(record))
            if loss.alone and charged and record.silent_attempts + 1 >= SILENT_ATTEMPTS_MAX:
                message = (
                    f"{SILENT_ATTEMPTS_MAX} workers fell silent with this request; with the last, the request ran alone"
                )
                self.give_up(record, Failed("POISONED", message), "the worker's lease ended", by_epoch=record.epoch)
                continue
            record.losses[lease.id] = loss
            if not charged:
                record.attempt -= 1
            self._put_back(record)
        self.silent.add(lease.id, tuple(record.request.id for record in held if lease.id in record.losses))
        self._close_lease(lease)
        return len(held)

    def heard_again(self, worker_id: str) -> None:
        """Takes back the charges of a silent worker that beats again: the worker had not died."""
        for record, loss in self._lost_by(worker_id):
            record.attempt -= loss.charged

    def replace_namesakes(self, worker_id: str) -> None:
        """Notes a worker's new incarnation: those before are dead, and the attempts that they lost count for good."""
        for lease in self.leases.namesakes(worker_id):
            self.end_lease(lease, ClaimEnd.REPLACED, "the worker came back as a new incarnation")
        for other_id in self.silent.namesakes(worker_id):
            for record, loss in self._lost_by(other_id):
                record.attempt += not loss.charged
                if loss.alone and record.deaths >= self._settings.quarantine_from_attempt:
                    message = f"{record.deaths} workers or backends died with this request; with the last, it ran alone"
                    self.give_up(record, Failed("POISONED", message), "the worker died", by_epoch=0)

    def _lost_by(self, worker_id: str) -> Iterator[tuple[Record, Loss]]:
        for request_id in self.silent.take(worker_id):
            record = self.records.get(request_id)
            if record is not None and (loss := record.losses.pop(worker_id, None)) and record.end is None:
                yield record, loss

    def _has_got_further(self, record: Record) -> bool:
        """Whether the log has grown so much in the attempt that ends that the request is not the cause of the end."""
        return len(record.tokens) - record.claimed_tokens >= self._settings.progress_tokens

    def _runs_alone(self, record: Record) -> bool:
        lease = None if record.holder is None else self.leases.get(record.holder)
        return record.quarantined and lease is not None and lease.suspects == 1

    def _put_back(self, record: Record) -> None:
        self._detach(record)
        self.requeued_total += 1
        self._enqueue(record)

    def _close_lease(self, lease: Worker) -> None:
        self.leases.end(lease)
        if lease.reserved is not None:
            record = self.records[lease.reserved]
            record.reserved_for = None
            self.queues.put_back(record)
            self._notify_work(record.request.model)

    # To the terminal event.

    def end(self, record: Record, end: Terminal, *, by_epoch: int = 0) -> None:
        """Writes the one terminal event of a request. `by_epoch` is the epoch of the worker that ends it, or 0."""
        request_id, now = record.request.id, self._now()
        lease = None if record.holder is None else self.leases.get(record.holder)
        if lease is not None and not by_epoch:
            # A worker that does not hear of the stop within a lease has lost its lease, and all its requests, by then.
            lease.stop(request_id, record.epoch, until=now + self._stop_repeated_s)
        if record.holder is None:
            record.queue_s += now - record.queued_at
        self._detach(record)
        record.ended_by = by_epoch
        self._account(record, end)
        # Counted once, at the end, so that a token without an extra costs nothing more when it is appended.
        record.extra_bytes = sum([delta.extra.size_bytes for delta in record.tokens if delta.extra is not None])
        record.ended_ms = self._wall_ms()
        del self.open[request_id]
        record.close(end)
        self.quarantined -= record.quarantined
        self.ended_total += 1
        self._deadlines.clear(request_id)
        self.reader_grace.forget(record)
        self.archive.keep(record, now)
        if self.archive.is_full:
            self.evict()

    def _account(self, record: Record, end: Terminal) -> None:
        """Settles what was reserved, and writes the usage record, in the step that ends the request.

        So no reservation outlives its request, and limits and usage count the same tokens.
        """
        request, now_us = record.request, self.now_us()
        used = Used.of(
            end,
            started=record.epoch > 0,
            logged=len(record.tokens),
            prompt_estimate=record.size.prompt_tokens,
            price=request.price,
        )
        if record.holds:
            self.limits.settle(request.id, record.holds, used, now_us)
            record.holds = ()
        self.usage.add(
            UsageRecord(
                now_us // 1000,
                request.id,
                request.tenant,
                request.key_id,
                request.model,
                request.priority,
                code_of(end),
                record.attempt,
                used.prompt_tokens,
                used.completion_tokens,
                used.cached_tokens,
                round(record.queue_s * 1000),
                round(record.run_s * 1000),
                used.cost_nano,
            ),
            failed=isinstance(end, Failed),
        )

    def cancel(self, record: Record) -> None:
        # Only the worker knows how many tokens the prompt has, and the worker is not asked any more.
        self.end(record, Finished("cancelled", Usage(0, len(record.tokens))))

    def expire(self, record: Record) -> None:
        message = "the deadline passed before the answer was complete"
        self.end(record, Failed("DEADLINE_EXCEEDED", message, Usage(0, len(record.tokens))))

    def give_up(self, record: Record, end: Failed, cause: str, *, by_epoch: int) -> None:
        """Ends a request and adds it to the dead letters. `by_epoch` is as for `end`."""
        letter = DeadRequest(record.request, record.attempt, cause, self._wall_ms())
        self.dead_letters.append(letter)
        self._new_dead_letters.append(letter)
        self.end(record, end, by_epoch=by_epoch)

    def take_new_dead_letters(self) -> list[DeadRequest]:
        """The dead letters since the last call, oldest first."""
        found = list(self._new_dead_letters)
        self._new_dead_letters.clear()
        return found

    def pop_overdue(self) -> Iterator[Record]:
        """Each record whose deadline has passed."""
        return (self.records[request_id] for request_id in self._deadlines.pop_due(self._now()))

    def first_due(self) -> float:
        """When the next request expires or loses its readers' grace, as far as is known now."""
        return min(self._deadlines.first(), self.reader_grace.first())

    def pop_abandoned(self) -> Iterator[Record]:
        """Each record without a reader whose grace has passed."""
        return (self.records[request_id] for request_id in self.reader_grace.pop_abandoned(self._now()))

    def evict(self) -> int:
        """Forgets ended requests whose time is over or that are beyond the bounds. Returns how many."""
        evicted = 0
        for record in self.archive.evict(self._now()):
            self._delete(record)
            evicted += 1
        return evicted

    def forget(self, record: Record) -> None:
        """Forgets an ended request before its time is over."""
        self.archive.bury(record, self._now())
        self._delete(record)

    def _delete(self, record: Record) -> None:
        self.log_tokens -= len(record.tokens)
        del self.records[record.request.id]

    def _due(self, request: GenerateRequest) -> float:
        left_ms = math.inf if request.timeout_ms is None else request.timeout_ms
        if request.deadline_ms is not None:
            left_ms = min(left_ms, request.deadline_ms - self._wall_ms())
        return self._now() + left_ms / 1000

    def _may_join(self, record: Record, lease: Worker) -> bool:
        return record.quarantined and lease.suspects < self._settings.together(record.attempt + 1)

    def _preferred(self, record: Record, lease: Worker) -> Worker | None:
        """Another live worker for which the request waits a moment, if that worker has room."""
        request, now = record.request, self._now()
        if not request.follows_up or record.quarantined or now - record.queued_at >= self._settings.affinity_wait_s:
            return None
        worker_id = self.conversations.last_worker(request.model, request.conversation, now)
        other = None if worker_id in {None, lease.id} else self.leases.get(str(worker_id))
        if other is None or other.due <= now or len(other.held) - len(lease.held) > self._settings.affinity_lead_max:
            return None
        return other

    def _detach(self, record: Record) -> None:
        worker_id = record.holder or record.reserved_for
        lease = None if worker_id is None else self.leases.get(worker_id)
        if record.holder is not None:
            record.run_s += self._now() - record.claimed_at
            self.running -= 1
            record.holder = None
            if lease is not None:
                lease.let_go(record.request.id)
            return
        self.queues.remove(record)
        if not self.queues.has_waiting(record.request.model):
            self._rates.pop(record.request.model, None)
        record.reserved_for = None
        if lease is not None:
            lease.reserved = None
            # The worker may claim again.
            lease.changes.notify_work(record.request.model)

    def _enqueue(self, record: Record) -> None:
        quarantined = record.attempt + 1 >= self._settings.quarantine_from_attempt
        self.quarantined += quarantined - record.quarantined
        record.quarantined = quarantined
        record.queued_at = self._now()
        self.queues.add(record)
        self._rates.setdefault(record.request.model, ServiceRate(record.queued_at))
        self._notify_work(record.request.model)

    def _note_claim(self, model: str) -> None:
        if self.queues.has_waiting(model):
            now = self._now()
            rate = self._rates.get(model)
            if rate is None:
                rate = self._rates[model] = ServiceRate(now)
            rate.claimed(now)

    def _notify_work(self, model: str) -> None:
        for lease in self.leases:
            lease.changes.notify_work(model)
