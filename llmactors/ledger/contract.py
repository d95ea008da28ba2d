"""The ledger's contract: one state machine and one token log per request.

The log is the truth; every notification is a hint. All operations but `claim` are idempotent: after a lost reply the
caller asks again. All methods are `async`, because a ledger may live in another process. `MemoryLedger` yields to the
scheduler only in the `wait_…` methods, so an append costs no task switch.

The life of a request::

    submit -> QUEUED -> claim -> RUNNING -> finish / dead letter / cancel / expire -> ENDED -> (`retention_s`) -> gone
                 ^                  |
                 +---- release, lost lease (the log stays, the epoch rises at the next claim)
"""

from collections.abc import Callable, Sequence
from typing import Protocol, Self

from llmactors.ledger.inspection import QueueShare, RequestFilter, RequestTimes, RequestViews
from llmactors.ledger.usage import RECORDS_MAX, UsageBy, UsagePage, UsageReport
from llmactors.ledger.values import (
    AdmitResult,
    AppendEntry,
    AppendResult,
    BeatResult,
    Candidate,
    Claim,
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
)
from llmactors.limiter.charges import Charge, Standing
from llmactors.messages import GenerateRequest, Terminal


class Follower(Protocol):
    """One reader's position in one log. Tasks do not share a follower.

    Use a follower as a context manager: while it is open, the request counts as read. Once no follower of the request
    is open, the request's `resume_grace_ms` runs.

    An open follower also keeps the log of a request that has ended, so that a client that reads slowly can go on at
    another gateway: the log's `retention_s` begins again when the last follower closes. That moment counts for a log
    with a longer time of its own as well; a log with a shorter one is kept for that time. No follower keeps a log for
    longer than `longest_read_s` after its end, and logs beyond `retained_max` or `retained_tokens_max` are deleted in
    any case, those that nobody reads first.
    """

    @property
    def cursor(self) -> int:
        """The seq of the last entry taken; 0 at the beginning."""
        ...

    def take(self) -> LogSlice:
        """Returns all entries after the cursor that this process knows, perhaps none, and moves the cursor past them.

        Raises `errors.Expired` when the log is no longer kept.
        """
        ...

    def listen(self, on_change: Callable[[], None] | None) -> None:
        """Registers `on_change`, to be called whenever `take` would return more; None removes the callback.

        The callback runs inside the call that changed the log: it must not wait and must not raise. One task can serve
        many followers in this way.
        """
        ...

    async def wait_more(self) -> None:
        """Returns once `take` would return something, or never will again: the end was taken, or the log is gone."""
        ...

    async def wait_end(self) -> None:
        """Returns once the terminal event can be taken, or the log is gone."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Ledger(Protocol):
    """Requests, leases and token logs. The module's docstring says what all methods share.

    Every method raises `errors.Unavailable` when the ledger cannot be reached; the outcome of the operation is then
    unknown, and asking again is safe.
    """

    # For gateways.

    async def submit(self, request: GenerateRequest) -> SubmitOutcome:
        """Admits `request` to the queue of its model, or says why not. Nobody is charged.

        Submitting a known request again restarts its grace without a reader.
        """
        ...

    async def admit(self, candidates: Sequence[Candidate]) -> AdmitResult:
        """Admits all candidates of one caller, or none of them: as `submit`, and within the caller's limits.

        Their charges are made in the same step, once per id however often the caller asks; a refusal costs nothing.
        The step that ends a request settles its reserved tokens and returns its permits, whoever ends the request.
        The outcome is CONFLICT also where some of the candidates are known and others are not.
        """
        ...

    async def now_ms(self) -> int:
        """The ledger's clock, to which the deadlines of requests refer: milliseconds since 1970."""
        ...

    async def expected_wait_s(self, request: GenerateRequest) -> float:
        """An estimate of how long `request` would wait before it starts, if it were submitted now, in seconds.

        The estimate follows from how many requests would be served first, and from how fast the queue of the model has
        moved recently. The estimate is 0 where nothing waits, and where nothing is known.
        """
        ...

    async def places(self, request_ids: Sequence[str]) -> list[QueuePlace | None]:
        """The place of each of these requests in its queue; None for a request that does not wait, or is not known.

        The place counts all requests of more urgent classes, the tenant's own requests before this one, and, of each
        other tenant, as many requests as this tenant has up to this one. So the place is exact where all requests cost
        the same and no class was passed over too often.
        """
        ...

    async def info(self, request_id: str) -> RequestInfo:
        """The state of a request. Raises `errors.NotFound`, or `errors.Expired` where the request was known once."""
        ...

    async def read(self, request_id: str, after: int = 0) -> LogSlice:
        """The log after seq `after`. The slice has the end of an ended log for every `after`, so that every reader
        learns of the end. Raises as `info`, and `ValueError` for a negative seq.
        """
        ...

    async def follow(self, request_id: str, after: int = 0) -> Follower:
        """A reader of the log after seq `after`, which is given the end once. Raises as `read`."""
        ...

    async def cancel(self, request_id: str) -> bool:
        """Ends the request now with finish reason `cancelled`, and tells its worker. False if it had ended before.

        Raises as `info`.
        """
        ...

    async def forget(self, request_id: str) -> None:
        """Deletes the log now, and a tombstone stays. A request that has not ended is cancelled. Raises as `info`."""
        ...

    # For workers.

    async def beat(self, worker: str) -> BeatResult:
        """Renews the lease of `worker`, or grants its first one. A worker id that lost its lease stays dead."""
        ...

    async def leave(self, worker: str) -> None:
        """Ends the lease of `worker` now. Its requests go back to the queue as if they were released as FAILED."""
        ...

    async def claim(self, worker: str, model: str, slots: int, *, hand_out: int = 0) -> list[Claim]:
        """Hands `worker` up to `slots` queued requests for `model` in fair order.

        Each claim raises the request's epoch and counts an attempt. A request is in quarantine from its third attempt
        on. Only a worker that holds nothing gets a request in quarantine, alone or with a few others in quarantine, and
        that worker gets nothing more until all of them are done. For a busy worker the request is reserved: the worker
        gets nothing new until it is empty, and other workers pass the request over. A worker without a live lease gets
        nothing, so workers `beat` first.

        A request that follows up (`GenerateRequest.follows_up`) prefers the worker that began the last request of its
        conversation. For `affinity_wait_s` after it was queued, other workers pass the request over, if that worker
        lives, could have taken more requests in its last claim, and does not run many more requests than the worker
        that claims. A worker that handed a request back has no room until it claims again. A request that was passed
        over keeps its place, and all other requests keep theirs. A request in quarantine prefers nobody.

        Up to `hand_out` of the slots that stay empty are open until the worker claims again: the call that puts a
        request into the queue may start the request for a worker with an open slot, by the same rules as a claim of
        that worker, so that the worker need not ask. Such a request is returned by `handed`, or by the next claim. The
        slot of a request that the worker has ended is open again, as long as another one is. No slot is open of a
        worker that handed a request back, lost its lease, or has or is to get a request in quarantine; no request in
        quarantine is handed out. A claim of no slots closes all. What was handed out and not begun counts as one of the
        `slots` of the next claim. A ledger may hand out nothing, as one
        that a claim reaches without a trip. One of several shards has each open slot on one of them, and closes the
        slots of other shards with the next claim.

        This is the one operation that is not idempotent. After a lost reply a worker does not know what it holds, so it
        has to `leave` and go on as a new incarnation.
        """
        ...

    def handed(self, worker: str, model: str) -> list[Claim]:
        """Takes the requests that were handed to `worker` since the last `handed` or `claim`, in the order of their
        claims. They are claimed: a worker that cannot begin one releases it.
        """
        ...

    def has_open_slots(self, worker: str, model: str) -> bool:
        """Whether the worker has open slots, as far as this process knows. Such a worker need not claim for a slot that
        becomes free.
        """
        ...

    async def preempt(self, worker: str, model: str, offered: Sequence[SlotOffer]) -> Preemption | None:
        """Lets one running request of `worker` change places with a waiting request, in one step.

        `offered` has what the worker would give up, the best one first. The next request of a more urgent class gets
        the slot, if it has waited for `preempt_after_s`; None where no request has, or none that is offered may be
        given up, such as one whose log has grown since. The request that is given up goes back to its old place with
        its log, as after a SILENT release: the attempt does not count, and what its worker appends from now on is
        FENCED. A request is given up at most `preemptions_max` times, and a model has at most `preemptions_per_s` of
        this. No request in quarantine gives up its slot, or gets one in this way.

        As `claim`, this is not idempotent.
        """
        ...

    async def append(self, entries: Sequence[AppendEntry]) -> list[AppendResult]:
        """Writes new tokens, and terminal events, of many requests at once; one result per entry, in order.

        Tokens that an earlier call has written are passed over, so a repeated call is harmless. The terminal event is
        written after the entry's tokens, and the request has ended then. The same terminal event at the same seq from
        the same epoch again is OK; anything else after the end is STOP.
        """
        ...

    async def finish(self, request_id: str, epoch: int, end: Terminal) -> AppendResult:
        """Writes the terminal event after the last token of the log: an `append` for a caller that does not know the
        last seq.
        """
        ...

    async def release(self, request_id: str, epoch: int, how: ReleaseHow, cause: str = "") -> AppendResult:
        """Hands a claim back. FENCED if the claim's epoch has passed, which is harmless."""
        ...

    async def wait_work(self, worker: str, model: str) -> News:
        """Returns when there may be something new for `worker`, and says what: a queued request of `model`, one that
        was handed to the worker, or a stop for `beat`.

        Returns also when a request that `claim` passed over prefers another worker no longer.

        A hint: the method may return without a reason, and may miss one, so workers also look at every beat. Returns
        no news where only time has passed.
        """
        ...

    async def demand(self, models: Sequence[str]) -> list[ModelDemand]:
        """What waits for each of `models`, by model and priority class, sorted; nothing for a queue that is empty.

        A request that is reserved for a worker is not counted.
        """
        ...

    # For any node.

    async def reap(self) -> int:
        """Ends what is overdue, and returns how many requests it changed. Any node may call it at any time.

        A lost lease puts the worker's requests back, or makes one in quarantine a dead letter. A passed deadline ends
        the request with `DEADLINE_EXCEEDED`. No reader for `resume_grace_ms` cancels it. A log that ended
        `retention_s` ago, or its request's own `retention_ms`, is deleted, unless a `Follower` has kept it, and a
        tombstone stays for `tombstone_s`.
        """
        ...

    @property
    def due_in_s(self) -> float:
        """In how many seconds the next `reap` is worth its cost, as far as this process knows: 0 or less where
        something is overdue, infinity where nothing is known to become due.
        """
        ...

    async def statistics(self) -> LedgerStatistics:
        """Counts over the whole ledger."""
        ...

    async def take_new_dead_letters(self) -> list[DeadRequest]:
        """The dead letters that no call returned before, oldest first, for a log line about each of them.

        Each dead letter is returned to one caller of all nodes. A reply that is lost with its connection is not
        repeated.
        """
        ...

    # For operators.

    async def queue_depths(self) -> list[QueueDepth]:
        """How many requests wait, by model and priority class, sorted; nothing for a queue that is empty."""
        ...

    async def open_requests(self, wanted: RequestFilter, limit: int) -> RequestViews:
        """The wanted requests that have not ended, oldest first, at most `limit` and `OPEN_REQUESTS_SHOWN` of them.

        The ledger looks at no more than `OPEN_REQUESTS_SEEN` requests. While requests come and go, one of them may be
        missing.
        """
        ...

    async def request_times(self, request_id: str) -> RequestTimes:
        """One request, also one that has ended, as long as the ledger has its log. Raises as `info`."""
        ...

    async def queue_shares(self, models: Sequence[str]) -> list[QueueShare]:
        """What waits for each of `models`, by class and tenant, at most `OPEN_REQUESTS_SHOWN` rows, the oldest wait
        first.

        The ledger may look at a part of the queue, where very many requests or tenants wait. A request that is reserved
        for a worker need not be counted.
        """
        ...

    async def standings(self, charges: Sequence[Charge]) -> list[Standing]:
        """How much is used now of the limits that `charges` name, one standing for each key. Nobody is charged."""
        ...

    async def dead_letters(self) -> list[DeadRequest]:
        """The newest dead letters, oldest first, at most `dead_letters_kept`."""
        ...

    async def requeue(self, request_id: str, new_id: str) -> SubmitOutcome:
        """Submits the dead letter `request_id` as a new request `new_id`, and removes the dead letter, in one step.

        The new request counts its attempts from 1, has no deadline, and is charged to nobody. The outcome is never
        LIMITED. With any outcome but ACCEPTED nothing changes: OVERLOADED where the queue is full, DUPLICATE where an
        earlier call with `new_id` succeeded, CONFLICT where `new_id` is another request.

        Raises `errors.NotFound` where there is no such dead letter.
        """
        ...

    async def usage_records(self, since_ms: int, until_ms: int, after: str = "", limit: int = RECORDS_MAX) -> UsagePage:
        """Usage records of requests that ended from `since_ms` to before `until_ms`, the oldest first, at most `limit`.

        The step that ends a request, whoever ends the request, writes one record of what the request has used, and adds
        the record to the sums of its hour and day. Records are kept for `usage_records_s`, and at most
        `usage_records_max` of them. A requeued dead letter is a new request, with a record of its own.

        `after` is the `next` of the page before. Raises `errors.InvalidRequest` for what is no such cursor.
        """
        ...

    async def usage_report(self, since_ms: int, until_ms: int, by: UsageBy) -> UsageReport:
        """Sums of what the requests have used that ended from `since_ms` to before `until_ms`.

        The sums are exact also where records were evicted. The time is widened to whole hours, and to whole days where
        the hours are no longer kept.
        """
        ...

    async def purge(self, request_id: str | None = None) -> int:
        """Removes the dead letters of one request, or all of them for None; returns how many there were."""
        ...
