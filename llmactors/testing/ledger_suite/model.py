"""A naive model of the ledger's contract, which `machine` compares with a real ledger.

The model has no queues, heaps or indexes, only the state of each request, and looks at all requests every time. The
model does not say which request is claimed next, only which requests must not be claimed.
"""

import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence

import attrs

from llmactors.ledger import (
    AppendEntry,
    AppendOutcome,
    AppendResult,
    Claim,
    LedgerSettings,
    Preemption,
    QueueDepth,
    ReleaseHow,
    SlotOffer,
    SubmitOutcome,
    UsageRecord,
)
from llmactors.messages import Finished, GenerateRequest, Terminal, TokenDelta, Usage


def kind_of(end: Terminal | None) -> str:
    """The finish reason or the error code of a terminal event. Of an event that the ledger itself wrote, only this is
    compared.
    """
    if end is None:
        return ""
    return end.reason if isinstance(end, Finished) else end.code


def requeued(dead: GenerateRequest, new_id: str) -> GenerateRequest:
    """The new request that a dead letter becomes."""
    return attrs.evolve(dead, id=new_id, deadline_ms=None, timeout_ms=None, resume_grace_ms=600_000)


@attrs.define(eq=False)
class ModelRequest:
    """The state of one accepted request."""

    request: GenerateRequest
    unread_since: float
    due_ms: float
    queued_at: float
    """When the request was last put into the queue."""
    state: str = "queued"
    epoch: int = 0
    attempt: int = 0
    crashed: int = 0
    """How many attempts before the current one count."""
    quarantined: bool = False
    """As of when the request was last put into the queue."""
    losses: dict[str, tuple[bool, bool]] = attrs.field(factory=dict)
    """By worker that fell silent with the request: whether the attempt counts, and whether the request ran alone."""
    holder: str = ""
    suspects: int = 0
    """The number of requests in the claim, including this one."""
    tokens: list[TokenDelta] = attrs.field(factory=list)
    claimed_tokens: int = 0
    """The length of the log at the last claim."""
    end_kind: str = ""
    end: Terminal | None = None
    ended_by: int = 0
    ended_at: float = 0.0
    read_at: float = 0.0
    """When a reader of the ended request last came or left."""
    claimed_at: float = 0.0
    queue_s: float = 0.0
    run_s: float = 0.0
    readers: int = 0
    preemptions: int = 0

    @property
    def last_seq(self) -> int:
        return len(self.tokens) + (self.state == "ended")

    @property
    def is_quarantined(self) -> bool:
        return self.state != "ended" and self.quarantined

    @property
    def silent(self) -> int:
        """How many of the attempts that count ended in silence only."""
        return sum(counts for counts, _ in self.losses.values())

    def is_overdue(self, wall_ms: float) -> bool:
        return self.state != "ended" and self.due_ms <= wall_ms

    def is_abandoned(self, now: float) -> bool:
        grace_s = self.request.resume_grace_ms / 1000
        return self.state != "ended" and not self.readers and self.unread_since + grace_s <= now


class LedgerModel:
    """The state of all requests and workers, which the same operations change as in the ledger."""

    def __init__(self, settings: LedgerSettings) -> None:
        self.settings = settings
        self.requests: dict[str, ModelRequest] = {}
        self.buried: dict[str, tuple[GenerateRequest, float]] = {}
        self.leases: dict[str, float] = {}
        self.dead: set[str] = set()
        self.last_workers: dict[tuple[str, str], str] = {}
        """By model and conversation, the worker that claimed the last request of the conversation."""
        self.room: Counter[tuple[str, str]] = Counter()
        """By worker and model, how many more requests the worker could have taken in its last claim, at most."""
        self.perhaps_reserved: set[tuple[str, str]] = set()
        """Workers and models whose room may be 0, because the worker may be reserved for a request in quarantine."""
        self.preempted_at: dict[tuple[int, str], float] = {}
        """By queue and model, when the last preemption was."""
        self.preferring: set[str] = set()
        """The requests that preferred another worker at the last claim."""
        self.dead_letters: deque[GenerateRequest] = deque(maxlen=settings.dead_letters_kept)
        self.accepted = 0
        self.hands_out = False
        """Whether workers leave slots open."""
        self.usage: list[UsageRecord] = []
        """The records of all ended requests."""

    def queue_of(self, request_id: str) -> int:  # noqa: ARG002
        """The queue in which a request waits. A ledger has one, unless a subclass says otherwise."""
        return 0

    def of_state(self, state: str) -> list[ModelRequest]:
        return [each for each in self.requests.values() if each.state == state]

    def held_by(self, worker: str) -> list[ModelRequest]:
        return [each for each in self.of_state("running") if each.holder == worker]

    def submit(self, request: GenerateRequest, now: float) -> SubmitOutcome:
        known = self.requests[request.id].request if request.id in self.requests else None
        if request.id in self.buried:
            known = self.buried[request.id][0]
        if known is not None:
            if known != request:
                return SubmitOutcome.CONFLICT
            if request.id in self.requests:
                self.requests[request.id].unread_since = now
            return SubmitOutcome.DUPLICATE
        queue = self.queue_of(request.id)
        if sum(self.queue_of(each.request.id) == queue for each in self.of_state("queued")) >= self.settings.max_queued:
            return SubmitOutcome.OVERLOADED
        due_ms = math.inf if request.deadline_ms is None else request.deadline_ms
        if request.timeout_ms is not None:
            due_ms = min(due_ms, now * 1000 + request.timeout_ms)
        self.requests[request.id] = ModelRequest(request, unread_since=now, due_ms=due_ms, queued_at=now)
        self.accepted += 1
        return SubmitOutcome.ACCEPTED

    def requeue(self, request_id: str, new_id: str, now: float) -> SubmitOutcome | None:
        """None where there is no such dead letter."""
        dead = next((each for each in self.dead_letters if each.id == request_id), None)
        known = new_id in self.requests or new_id in self.buried
        if dead is None:
            return SubmitOutcome.DUPLICATE if known else None
        outcome = self.submit(requeued(dead, new_id), now)
        if outcome is SubmitOutcome.ACCEPTED:
            self.dead_letters.remove(dead)
        return outcome

    def purge(self, request_id: str | None) -> int:
        purged = [each for each in self.dead_letters if request_id in {None, each.id}]
        for each in purged:
            self.dead_letters.remove(each)
        return len(purged)

    def queue_depths(self) -> list[QueueDepth]:
        waiting = Counter((each.request.model, each.request.priority) for each in self.of_state("queued"))
        return [QueueDepth(model, priority, count) for (model, priority), count in sorted(waiting.items())]

    def beat(self, worker: str, now: float) -> bool:
        if not self.is_live(worker, now):
            if worker in self.dead:
                self.take_back(worker)
                return False
            self.replace(worker, now)
        self.leases[worker] = now + self.settings.lease_s
        return True

    def is_live(self, worker: str, now: float) -> bool:
        """Whether the lease of the worker is valid. An overdue lease ends here."""
        if worker in self.leases and self.leases[worker] <= now:
            self.fall_silent(worker, now)
        return worker in self.leases

    def lose(self, worker: str, now: float) -> None:
        """The worker is known to be dead."""
        if worker in self.leases:
            del self.leases[worker]
            self.dead.add(worker)
            for each in self.held_by(worker):
                self.crash(each, now)

    def crash(self, each: ModelRequest, now: float) -> None:
        deaths = each.crashed - each.silent + 1
        if self._has_got_further(each):
            self.put_back(each, now, counts=False)
        elif self.is_alone(each) and deaths >= self.settings.quarantine_from_attempt:
            self.poison(each, now, by_epoch=each.epoch)
        else:
            self.put_back(each, now, counts=True)

    def fall_silent(self, worker: str, now: float) -> None:
        counts = any(due - now >= self.settings.lease_s / 2 for due in self.leases.values())
        del self.leases[worker]
        self.dead.add(worker)
        for each in self.held_by(worker):
            alone = self.is_alone(each)
            if self._has_got_further(each):
                self.put_back(each, now, counts=False)
            elif alone and counts and each.silent + 1 >= 3:
                self.poison(each, now, by_epoch=each.epoch)
            else:
                each.losses[worker] = counts, alone
                self.put_back(each, now, counts=counts)

    def _has_got_further(self, each: ModelRequest) -> bool:
        return len(each.tokens) - each.claimed_tokens >= self.settings.progress_tokens

    def take_back(self, worker: str) -> None:
        """The silent worker beats again."""
        for each, counts, _ in self.lost_by(worker):
            each.crashed -= counts
            each.attempt -= counts

    def replace(self, worker: str, now: float) -> None:
        """A new incarnation of the worker has come."""
        name = worker.partition("#")[0]
        for other in [other for other in self.leases if other.partition("#")[0] == name]:
            self.lose(other, now)
        for other in sorted(self.dead):
            if other.partition("#")[0] == name:
                for each, counts, alone in self.lost_by(other):
                    each.crashed += not counts
                    each.attempt += not counts
                    if alone and each.crashed - each.silent >= self.settings.quarantine_from_attempt:
                        self.poison(each, now, by_epoch=0)

    def lost_by(self, worker: str) -> list[tuple[ModelRequest, bool, bool]]:
        """The requests that the silent worker held, which forget the worker."""
        found = [(each, each.losses.pop(worker)) for each in self.requests.values() if worker in each.losses]
        return [(each, counts, alone) for each, (counts, alone) in found if each.state != "ended"]

    def is_alone(self, each: ModelRequest) -> bool:
        return each.is_quarantined and each.suspects == 1

    def put_back(self, each: ModelRequest, now: float, *, counts: bool) -> None:
        each.run_s += now - each.claimed_at
        each.queued_at = now
        each.crashed += counts
        each.attempt = each.crashed
        each.state, each.holder = "queued", ""
        each.quarantined = each.crashed + 1 >= self.settings.quarantine_from_attempt

    def poison(self, each: ModelRequest, now: float, *, by_epoch: int) -> None:
        self.dead_letters.append(each.request)
        self.close(each, "POISONED", now, by_epoch=by_epoch)

    def close(
        self, each: ModelRequest, kind: str, now: float, end: Terminal | None = None, *, by_epoch: int = 0
    ) -> None:
        assert each.state != "ended", "a second terminal event"  # noqa: S101
        self.record_usage(each, kind, now, end)
        each.state, each.holder, each.end_kind, each.end = "ended", "", kind, end
        each.ended_at, each.ended_by = now, by_epoch

    def record_usage(self, each: ModelRequest, kind: str, now: float, end: Terminal | None) -> None:
        """The prompt has 1 token by estimate, and the ends of the machine have the right numbers or none."""
        if each.state == "queued":
            each.queue_s += now - each.queued_at
        else:
            each.run_s += now - each.claimed_at
        usage = Usage(0, 0) if end is None or end.usage is None else end.usage
        prompt = usage.prompt_tokens or (1 if each.epoch else 0)
        made = max(usage.completion_tokens, len(each.tokens))
        price = each.request.price
        record = UsageRecord(
            round(now * 1000),
            each.request.id,
            each.request.tenant,
            each.request.key_id,
            each.request.model,
            each.request.priority,
            kind,
            each.attempt,
            prompt,
            made,
            usage.cached_tokens,
            round(each.queue_s * 1000),
            round(each.run_s * 1000),
            0 if price is None else price.cost_nano(prompt, made, usage.cached_tokens),
        )
        self.usage.append(record)

    def preferred(self, each: ModelRequest, worker: str, now: float) -> str | None:
        """The other worker for which the request waits a moment, if that worker has room."""
        request = each.request
        if not request.follows_up or each.quarantined or now - each.queued_at >= self.settings.affinity_wait_s:
            return None
        other = self.last_workers.get((request.model, request.conversation), worker)
        is_live = self.leases.get(other, -math.inf) > now
        return other if other != worker and is_live and self.room[other, request.model] else None

    def claim(self, worker: str, model: str, slots: int, claims: Sequence[Claim], now: float, wall_ms: float) -> None:
        """Follows the ledger's choice of requests, and fails if the ledger was not allowed to make it."""
        waiting = [each for each in self._waiting_for(model) if not each.is_overdue(wall_ms)]
        claimed = {claim.request.id for claim in claims}
        prefer = [(each, other) for each in waiting if (other := self.preferred(each, worker, now)) is not None]
        self.preferring = {each.request.id for each, _ in prefer}
        for each, other in prefer:
            lead = len(self.held_by(other)) - len(self.held_by(worker))
            is_sure = lead <= self.settings.affinity_lead_max and (other, model) not in self.perhaps_reserved
            # Once one request of the conversation is claimed here, the others prefer this worker.
            together = sum(claim.request.conversation == each.request.conversation for claim in claims)
            if each.request.id in claimed and is_sure and together == 1:
                passed_over = sum(one.request.id not in claimed for one, preferred in prefer if preferred == other)
                assert passed_over >= self.room[other, model], "claimed in spite of a preference"  # noqa: S101
        self._start(worker, claims, wall_ms)
        if worker in self.leases:
            held = self.held_by(worker)
            self.room[worker, model] = slots - len(claims)
            if any(each.is_quarantined for each in held):
                self.room[worker, model] = 0
            self.perhaps_reserved.discard((worker, model))
            if held and any(each.is_quarantined for each in self.of_state("queued")):
                self.perhaps_reserved.add((worker, model))

    def hand_out(self, worker: str, claim: Claim, now: float, wall_ms: float) -> None:
        """Follows the ledger's choice of a worker that gets a request unasked, and fails if it was not allowed."""
        each = self.requests[claim.request.id]
        place = worker, each.request.model
        assert self.leases.get(worker, now) - now >= self.settings.lease_s / 2, "handed to a silent worker"  # noqa: S101
        assert self.room[place] > 0, "handed to a worker without open slots"  # noqa: S101
        assert not each.quarantined, "handed out in quarantine"  # noqa: S101
        self.preferring = set()
        room = self.room[place]
        self._start(worker, [claim], wall_ms)
        self.room[place] = room - 1

    def _start(self, worker: str, claims: Sequence[Claim], wall_ms: float) -> None:
        for claim in claims:
            if claim.request.conversation:
                model = claim.request.model
                self.last_workers[model, claim.request.conversation] = worker
            each = self.requests[claim.request.id]
            assert each.state == "queued", "handed out twice"  # noqa: S101
            assert not each.is_overdue(wall_ms), "handed out after its deadline"  # noqa: S101
            each.state, each.holder = "running", worker
            each.claimed_at = wall_ms / 1000
            each.queue_s += each.claimed_at - each.queued_at
            assert claim.epoch > each.epoch, "an epoch was given out again"  # noqa: S101
            each.epoch = claim.epoch
            each.attempt = each.crashed + 1
            each.claimed_tokens = len(each.tokens)
            log = tuple(each.tokens)
            expected = Claim(each.request, each.epoch, each.attempt, each.quarantined, log)
            assert attrs.evolve(claim, waited_s=0.0, earlier=()) == expected  # noqa: S101
            each.suspects = len(claims)
        held = self.held_by(worker)
        if any(each.is_quarantined for each in held):
            assert all(each.is_quarantined for each in held), "not apart in quarantine"  # noqa: S101
            assert len(claims) in {0, len(held)}, "one more in quarantine"  # noqa: S101
            most = min(self.settings.together(each.attempt) for each in held)
            assert len(claims) <= most, "too many in quarantine"  # noqa: S101

    def must_preempt(self, worker: str, model: str, offered: Sequence[SlotOffer], now: float, ms: float) -> bool:
        """Whether a request had to change places with one that is offered, whichever is the next of its class."""
        held = self.held_by(worker)
        if any(each.is_quarantined for each in [*held, *self.of_state("queued")]):
            return False  # the worker may be reserved
        for queue in {self.queue_of(offer.request_id) for offer in offered}:
            if now - self.preempted_at.get((queue, model), -math.inf) < 1 / self.settings.preemptions_per_s:
                continue
            given = [each for each in held if self.queue_of(each.request.id) == queue]
            classes = [each.request.priority for each in given if self._may_give_way(each, offered, model)]
            for priority in range(max(classes, default=0)):
                waiting = [each for each in self._waiting_for(model, queue) if each.request.priority == priority]
                if waiting and all(self._is_urgent(each, now, ms) for each in waiting):
                    return True
        return False

    def preempt(self, worker: str, swap: Preemption, offered: Sequence[SlotOffer], now: float, wall_ms: float) -> None:
        """Follows the ledger's choice of two requests that change places, and fails if the choice was not allowed."""
        urgent, given = self.requests[swap.claim.request.id], self.requests[swap.given_up[0]]
        model = urgent.request.model
        assert given.holder == worker, "given up by another worker"  # noqa: S101
        assert self._may_give_way(given, offered, model), "must not be given up"  # noqa: S101
        assert self._is_urgent(urgent, now, wall_ms), "must not preempt"  # noqa: S101
        assert urgent.request.priority < given.request.priority, "not more urgent"  # noqa: S101
        queue = self.queue_of(urgent.request.id)
        assert self.queue_of(given.request.id) == queue, "given up for a request of another queue"  # noqa: S101
        pause_s = now - self.preempted_at.get((queue, model), -math.inf)
        assert pause_s >= 1 / self.settings.preemptions_per_s, "too many preemptions"  # noqa: S101
        self.preempted_at[queue, model] = now
        given.preemptions += 1
        self.put_back(given, now, counts=False)
        room = self.room[worker, model]
        self.preferring = set()
        self._start(worker, [swap.claim], wall_ms)
        self.room[worker, model] = room

    def _may_give_way(self, each: ModelRequest, offered: Sequence[SlotOffer], model: str) -> bool:
        is_offered = any(
            (each.request.id, each.epoch) == (offer.request_id, offer.epoch) and len(each.tokens) <= offer.tokens
            for offer in offered
        )
        may = is_offered and each.request.model == model and each.state == "running"
        return may and not each.quarantined and each.preemptions < self.settings.preemptions_max

    def _is_urgent(self, each: ModelRequest, now: float, wall_ms: float) -> bool:
        waited = now - each.queued_at >= self.settings.preempt_after_s
        return waited and not each.quarantined and not each.is_overdue(wall_ms)

    def append(self, entry: AppendEntry, now: float) -> AppendResult:
        each = self.requests.get(entry.request_id)
        if each is None:
            return AppendResult(AppendOutcome.GONE)
        next_seq = len(each.tokens) + 1
        if (refused := self._refused(each, entry.epoch)) is not None:
            at_end = entry.first_seq + len(entry.deltas) == each.last_seq
            repeated = entry.end is not None and entry.end == each.end and each.ended_by == entry.epoch and at_end
            return AppendResult(AppendOutcome.OK if repeated else refused)
        if entry.first_seq > next_seq:
            return AppendResult(AppendOutcome.GAP, next_seq)
        for seq, delta in enumerate(entry.deltas, entry.first_seq):
            if seq == len(each.tokens) + 1:
                each.tokens.append(delta)
        if entry.end is not None:
            place = each.holder, each.request.model
            if self.hands_out and self.room[place]:
                self.room[place] += 1  # the slot is open again, as another one is
            self.close(each, kind_of(entry.end), now, entry.end, by_epoch=entry.epoch)
        return AppendResult(AppendOutcome.OK)

    def release(self, request_id: str, epoch: int, how: ReleaseHow, now: float) -> AppendOutcome:
        each = self.requests.get(request_id)
        if each is None:
            return AppendOutcome.GONE
        if (refused := self._refused(each, epoch)) is not None:
            return refused
        self.room[each.holder, each.request.model] = 0
        if how is ReleaseHow.FATAL:
            self.dead_letters.append(each.request)
            self.close(each, "BACKEND_FAILED", now, by_epoch=epoch)
        elif how is ReleaseHow.FAILED:
            self.crash(each, now)
        else:
            self.put_back(each, now, counts=False)
        return AppendOutcome.OK

    def reap(self, now: float, wall_ms: float) -> None:
        for worker in list(self.leases):
            self.is_live(worker, now)
        for each in self.requests.values():
            if each.is_overdue(wall_ms):
                self.close(each, "DEADLINE_EXCEEDED", now)
            elif each.is_abandoned(now):
                self.close(each, "cancelled", now)
        for request_id, each in list(self.requests.items()):
            if each.state == "ended" and self._kept_until(each, now) <= now:
                self._bury(request_id, now)
        self.buried = {key: (request, until) for key, (request, until) in self.buried.items() if until > now}

    def forget(self, request_id: str, now: float) -> None:
        if self.requests[request_id].state != "ended":
            self.close(self.requests[request_id], "cancelled", now)
        self._bury(request_id, now)

    def may_be_left_waiting(self, worker: str, model: str, claims: Sequence[Claim], wall_ms: float) -> bool:
        """Whether a claim was allowed to leave slots empty."""
        waiting = [each for each in self._waiting_for(model) if not each.is_overdue(wall_ms)]
        left = [each for each in waiting if each.request.id not in self.preferring]
        held = self.held_by(worker)
        if not left or any(each.is_quarantined for each in held):
            return True
        if held:
            # The worker may be reserved for a quarantined request of any model.
            return any(each.is_quarantined for each in self.of_state("queued"))
        # An empty worker skips only requests that are reserved for other workers, one each, unless the worker itself is
        # reserved for a request of another model. The other workers were busy when the reservations were made, and may
        # be empty by now without having claimed again.
        others = [other for other in self.leases if other != worker]
        elsewhere = [each for each in self.of_state("queued") if each.request.model != model and each.is_quarantined]
        return not claims and (
            bool(elsewhere) or (len(left) <= len(others) and all(each.is_quarantined for each in left))
        )

    def _kept_until(self, each: ModelRequest, now: float) -> float:
        own_ms, general_s = each.request.retention_ms, self.settings.retention_s
        kept_s = general_s if own_ms is None else own_ms / 1000
        read_at = min(now if each.readers else each.read_at, each.ended_at + self.settings.longest_read_s)
        return max(each.ended_at + kept_s, read_at + min(kept_s, general_s))

    def _bury(self, request_id: str, now: float) -> None:
        self.buried[request_id] = (self.requests.pop(request_id).request, now + self.settings.tombstone_s)

    def _waiting_for(self, model: str, queue: int | None = None) -> Iterator[ModelRequest]:
        """The requests that wait for a model, in one queue or in any."""
        waiting = (each for each in self.of_state("queued") if each.request.model == model)
        return (each for each in waiting if queue is None or self.queue_of(each.request.id) == queue)

    def _refused(self, each: ModelRequest, epoch: int) -> AppendOutcome | None:
        if each.epoch != epoch:
            return AppendOutcome.FENCED
        if each.state == "ended":
            return AppendOutcome.STOP
        return None if each.state == "running" else AppendOutcome.FENCED
