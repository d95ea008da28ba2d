"""The ledger's contract: one state machine and one token log per request.

The log is the truth; every wake-up is a hint. All operations are idempotent: after a lost reply the caller asks again.
All methods are `async` because a ledger may live in another process; `MemoryLedger` never yields to the scheduler in
any but the `wait_…` methods, so an append costs no task switch.

The life of a request::

    submit -> QUEUED -> claim -> RUNNING -> finish / dead letter / cancel / expire -> ENDED -> (`retention_s`) -> gone
                 ^                  |
                 +---- release, lost lease (the log stays, the epoch rises at the next claim)
"""

import enum
from collections.abc import Callable, Sequence
from typing import Protocol, Self

import attrs
import msgspec

from llmactors.limiter.charges import Charge, Standing
from llmactors.messages import GenerateRequest, Terminal, TokenDelta


class SubmitOutcome(enum.Enum):
    """What became of a submit."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    """The same id with an equal request is already known: nothing changed."""
    CONFLICT = "conflict"
    """The same id is known with another request."""
    OVERLOADED = "overloaded"
    """The queue's bound in requests or bytes is reached."""
    LIMITED = "limited"
    """The caller has used what it may."""


@attrs.frozen
class Candidate:
    """A request that asks to be admitted, and what it costs its caller."""

    request: GenerateRequest
    charges: Sequence[Charge] = ()


@attrs.frozen
class AdmitResult:
    """The answer to candidates."""

    outcome: SubmitOutcome
    """Of all of them."""
    standings: tuple[Standing, ...] = ()
    """How the caller stands with each limit now. LIMITED: some of these refused."""


class AppendOutcome(enum.Enum):
    """What became of one entry of an append."""

    OK = "ok"
    """It is in the log, by this call or an earlier one with the same content."""
    FENCED = "fenced"
    """A later epoch exists (even if the request has ended since), or the claim was handed back: drop the sequence."""
    STOP = "stop"
    """The request was cancelled, expired or has ended: nothing was written, drop the sequence."""
    GAP = "gap"
    """`first_seq` leaves a hole: nothing was written, send again from `next_seq`."""
    GONE = "gone"
    """The ledger does not know the request."""


class ReleaseHow(enum.Enum):
    """Why a claim is handed back."""

    SILENT = "silent"
    """A drain, or work that never started: the attempt is given back."""
    FAILED = "failed"
    """The backend crashed under it: the attempt counts. Alone in quarantine, this convicts the request."""
    FATAL = "fatal"
    """It can never work: straight to the dead letters."""


class RepairOutcome(enum.Enum):
    """What became of a repair."""

    OK = "ok"
    DIVERGED = "diverged"
    """The log and the tokens offered have no common history; nothing was changed."""
    GONE = "gone"


@attrs.frozen
class Claim:
    """A request in the hands of a worker, and all that it needs to go on."""

    request: GenerateRequest
    epoch: int
    """Rises at every claim; an append with a lower one is fenced."""
    attempt: int
    """Which try this is, counted from 1."""
    quarantined: bool
    """It runs alone on its worker, or with few, because its attempts before this one ended in crashes."""
    tokens: tuple[TokenDelta, ...]
    """What is in the log already, from seq 1."""
    waited_s: float = 0.0
    """How long it was queued before this claim, in seconds."""


class AppendEntry(msgspec.Struct, frozen=True, gc=False):
    """New tokens of one request, and its terminal event where these are the last."""

    request_id: str
    epoch: int
    first_seq: int
    """The seq of `deltas[0]`; with no deltas, the seq of the terminal event."""
    deltas: Sequence[TokenDelta] = ()
    end: Terminal | None = None


@attrs.frozen
class AppendResult:
    """The answer to one entry."""

    outcome: AppendOutcome
    next_seq: int = 0
    """With GAP: where to send again from."""


@attrs.frozen
class BeatResult:
    """The answer to a beat."""

    live: bool
    """False: the lease was lost and the worker's requests were given away. Drop everything; start a new incarnation."""
    stop: tuple[tuple[str, int], ...] = ()
    """(request id, epoch) of this worker's requests that are no longer wanted: cancelled or expired. Each beat says it
    again for `lease_s`, as any one answer may be lost."""


class LogSlice(msgspec.Struct, frozen=True, gc=False):
    """A part of a request's log: `deltas[0]` has `first_seq`; `end`, if reached, has the seq after the last."""

    first_seq: int
    deltas: Sequence[TokenDelta]
    end: Terminal | None = None

    @property
    def end_seq(self) -> int:
        """The seq of the terminal event. Meaningful only where `end` is set."""
        return self.first_seq + len(self.deltas)


@attrs.frozen
class RequestInfo:
    """What a gateway may know of a request without reading its log."""

    request: GenerateRequest
    state: str
    """`queued`, `running` or `ended`."""
    epoch: int
    attempt: int
    last_seq: int
    """The seq of the last entry in the log, the terminal event included; 0 while it is empty."""


@attrs.frozen
class DeadRequest:
    """A request that was given up, and why."""

    request: GenerateRequest
    attempt: int
    cause: str
    at_ms: int
    """Milliseconds since 1970."""


@attrs.frozen
class LedgerStatistics:
    """A snapshot."""

    queued: int
    running: int
    ended: int
    queued_bytes: int
    log_tokens: int
    workers: int
    dead_letters: int
    quarantined: int
    accepted_total: int
    ended_total: int
    requeued_total: int
    """Times a request went back to the queue after its worker was lost or its backend crashed."""
    fenced_total: int


class Follower(Protocol):
    """One reader's place in one log. Not shared between tasks.

    Use it as a context manager: while it is open the request counts as read, and once nobody has it open the
    request's `resume_grace_ms` runs.
    """

    @property
    def cursor(self) -> int:
        """The seq of the last entry taken; 0 at the beginning."""
        ...

    def take(self) -> LogSlice:
        """All entries after the cursor that are known here, which may be none; moves the cursor past them.

        Raises `errors.Expired` when the log is no longer kept.
        """
        ...

    def listen(self, news: Callable[[], None] | None) -> None:
        """Has `news` called, from within whatever made it so, whenever `take` would give more; None: no longer.

        It must not wait and must not raise. For one task that serves many followers.
        """
        ...

    async def wait_more(self) -> None:
        """Returns once `take` would give something, or never will again: the end was taken, or the log is gone."""
        ...

    async def wait_end(self) -> None:
        """Returns once the terminal event can be taken, or the log is gone."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Ledger(Protocol):
    """Requests, leases and token logs. See the module's text for what all methods share.

    Raises `errors.Unavailable` when the ledger is away; the outcome of the operation is then unknown, and asking
    again is safe.
    """

    async def submit(self, request: GenerateRequest) -> SubmitOutcome:
        """Admits `request` to the queue of its model, or says why not. It is charged to nobody.

        Who submits it again has not gone: its grace without a reader begins anew.
        """
        ...

    async def admit(self, candidates: Sequence[Candidate]) -> AdmitResult:
        """Admits all of one caller's candidates, or none: as `submit`, and within what the caller may use.

        What they cost is charged in the same move, so once per id however often it is asked for; a refusal costs
        nothing. What was reserved in tokens is settled, and what counts as open is closed, in the move that ends a
        request, whoever ends it: neither outlives it. CONFLICT also where some are known and others are not.
        """
        ...

    async def expected_wait_s(self, request: GenerateRequest) -> float:
        """How long `request` would wait before it starts, if it were submitted now: an estimate, in seconds.

        From what would be served before it, and how fast the queue of its model has moved of late. 0 where nothing
        waits, and where nothing is known.
        """
        ...

    async def claim(self, worker: str, model: str, slots: int) -> list[Claim]:
        """Hands `worker` up to `slots` queued requests for `model` in fair order.

        Each claim raises the request's epoch and counts an attempt. A request on its third attempt or later is in
        quarantine: it is handed out only to a worker that holds nothing, alone or with a few other such, and that
        worker gets nothing more until it is done with all of them. A busy worker that comes upon one has it reserved,
        and gets nothing new until it is empty; other workers pass it over. A worker without a live lease gets nothing:
        `beat` first.

        This is the one operation that is not idempotent: after a lost reply the worker does not know what it holds, so
        it has to `leave` and go on as a new incarnation.
        """
        ...

    async def append(self, entries: Sequence[AppendEntry]) -> list[AppendResult]:
        """Writes new tokens, and terminal events, of many requests at once; one result per entry, in order.

        Tokens that are in the log already under the same or an earlier call are passed over, so a repeated call is
        harmless. A terminal event is written after the entry's tokens; the request has ended then. The same terminal
        event at the same seq from the same epoch again is OK; anything else after the end is STOP.
        """
        ...

    async def finish(self, request_id: str, epoch: int, end: Terminal) -> AppendResult:
        """Writes the terminal event after whatever is in the log. As `append` with no tokens, for a caller that
        does not know the last seq.
        """
        ...

    async def release(self, request_id: str, epoch: int, how: ReleaseHow, cause: str = "") -> AppendResult:
        """Hands a claim back. FENCED where the claim is not this epoch's any more; that is harmless."""
        ...

    async def beat(self, worker: str) -> BeatResult:
        """Renews the lease of `worker`, or grants the first one. A worker id that lost its lease stays dead."""
        ...

    async def leave(self, worker: str) -> None:
        """Ends the lease of `worker` now: what it still holds goes back to the queue as if released FAILED."""
        ...

    async def reap(self) -> int:
        """Anyone, any time: ends what is overdue, and says how many requests it touched.

        Lost leases → requeue (or dead letter, in quarantine). Deadlines → `DEADLINE_EXCEEDED`. No reader for
        `resume_grace_ms` → cancelled. Ended for `retention_s` → gone, a tombstone stays a while for 410.
        """
        ...

    async def info(self, request_id: str) -> RequestInfo:
        """Raises `errors.NotFound`, or `errors.Expired` where it was known once."""
        ...

    async def read(self, request_id: str, after: int = 0) -> LogSlice:
        """The log after seq `after`, as far as it goes; with its end, if it has one, whatever `after` is, so that every
        reader learns of it. Raises as `info`, and `ValueError` for a negative seq.
        """
        ...

    async def follow(self, request_id: str, after: int = 0) -> Follower:
        """A reader of the log from `after` on, to which the end is given once, as in `read`. Raises as `read`."""
        ...

    async def cancel(self, request_id: str) -> bool:
        """Ends the request now with finish reason `cancelled`; its worker is told. False where it had ended before.

        Raises as `info`.
        """
        ...

    async def watch(self, request_id: str, ttl_ms: int) -> None:
        """Says that a reader exists for the next `ttl_ms` milliseconds, for readers that hold no `Follower` here."""
        ...

    async def repair(self, request_id: str, epoch: int, digest: bytes, tokens: Sequence[TokenDelta]) -> RepairOutcome:
        """Extends a log that lost its suffix. `tokens` is the log from seq 1 as the caller knows it; `digest` is
        `log_digest(tokens)`. OK where the ledger's log is a prefix of it (or the other way round). DIVERGED also where
        tokens are missing from the log but `epoch` is not the present one, or the request has ended.
        """
        ...

    async def wait_work(self, worker: str, model: str) -> None:
        """Returns when there may be something new for `worker`: a queued request of `model`, or a stop for `beat`.

        A hint: it may return for nothing, and may miss; callers also look at every beat.
        """
        ...

    async def dead_letters(self) -> list[DeadRequest]:
        """The newest ones, oldest first; bounded."""
        ...

    async def statistics(self) -> LedgerStatistics: ...
