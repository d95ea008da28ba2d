"""What a ledger is given, and what it answers: frozen values. `contract.py` says which operation takes which."""

import enum
from collections.abc import Mapping, Sequence

import attrs
import msgspec

from llmactors.errors import NotFound
from llmactors.ledger.request_size import RequestSize
from llmactors.limiter.charges import Charge, Standing
from llmactors.messages import GenerateRequest, Terminal, TokenDelta

CLAIMS_KEPT = 16
"""How many claims of a request the ledger remembers."""
CLAIM_DETAIL_CHARS = 200
REQUEUED_GRACE_MS = 600_000
"""How long a requeued request may wait for its first reader: the client of the first try has read the failure."""


class SubmitOutcome(enum.Enum):
    """The outcome of a submit, an admit or a requeue."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    """An equal request with this id is known already: nothing changed."""
    CONFLICT = "conflict"
    """Another request with this id is known already: nothing changed."""
    OVERLOADED = "overloaded"
    """The queue has reached its bound in requests or bytes."""
    LIMITED = "limited"
    """The caller has reached a limit."""


@attrs.frozen
class Candidate:
    """A request to be admitted, and what its caller is charged for it."""

    request: GenerateRequest
    charges: Sequence[Charge] = ()
    size: RequestSize = attrs.Factory(lambda self: RequestSize.of(self.request), takes_self=True)
    """Computed from the request, unless the caller has computed it already."""


@attrs.frozen
class AdmitResult:
    """The answer to candidates."""

    outcome: SubmitOutcome
    """The one outcome of all candidates."""
    standings: tuple[Standing, ...] = ()
    """How much of each limit the caller has used now. With LIMITED, at least one of them refused."""


class AppendOutcome(enum.Enum):
    """The outcome of one entry of an append."""

    OK = "ok"
    """The entry is in the log, by this call or by an earlier call with the same content."""
    FENCED = "fenced"
    """A later epoch exists, even if the request has ended since, or the claim was released: drop the sequence."""
    STOP = "stop"
    """The request was cancelled, has expired or has ended: nothing was written, drop the sequence."""
    GAP = "gap"
    """`first_seq` leaves a hole in the log: nothing was written, send again from `next_seq`."""
    GONE = "gone"
    """The ledger does not know the request."""


class ReleaseHow(enum.Enum):
    """Why a worker releases a claim."""

    SILENT = "silent"
    """The worker drains, or never started the request: the attempt does not count."""
    FAILED = "failed"
    """The backend crashed: the attempt counts. A request that ran alone in quarantine becomes a dead letter."""
    FATAL = "fatal"
    """The request can never work: it becomes a dead letter at once."""


class ClaimEnd(enum.Enum):
    """Why a claim is over though its request is not."""

    HANDED_BACK = "handed_back"
    """The worker drained, or had not begun the request."""
    PREEMPTED = "preempted"
    """The request gave its slot to a request of a more urgent class."""
    CRASHED = "crashed"
    """The backend crashed."""
    LEFT = "left"
    """The worker left the ledger while it held the request."""
    REPLACED = "replaced"
    """The worker's node came back, so the worker had died."""
    SILENT = "silent"
    """The worker's lease ended."""
    DISCONNECTED = "disconnected"
    """The worker's process had no connection to Redis any more."""
    REPAIRED = "repaired"
    """Redis had lost tokens, which a gateway wrote back: the next worker continues behind them."""


@attrs.frozen
class ClaimNote:
    """One claim, as the ledger remembers the claim for operators."""

    epoch: int
    worker: str
    at_ms: int
    """When the worker claimed the request, in milliseconds since 1970."""
    ended: ClaimEnd | None = None
    """None while the claim holds, and where the request ended in the claim."""
    detail: str = ""
    """The error of the backend, or what the worker said when it handed the request back. At most 200 characters."""


@attrs.frozen
class Claim:
    """A request that a worker runs, and all that the worker needs to continue it."""

    request: GenerateRequest
    epoch: int
    """Rises at every claim; an append with a lower epoch is fenced."""
    attempt: int
    """The number of this try, counted from 1."""
    quarantined: bool
    """Whether the request runs alone on its worker, or with few others, because earlier attempts ended in crashes."""
    tokens: tuple[TokenDelta, ...]
    """The log so far, from seq 1."""
    waited_s: float = 0.0
    """How long the request waited in the queue before this claim, in seconds."""
    earlier: tuple[ClaimNote, ...] = ()
    """The claims before this one, oldest first, as in `RequestInfo.claims`."""


class News(enum.Flag):
    """What a worker was told of. Nothing, where only time has passed."""

    WORK = enum.auto()
    """There may be something to claim."""
    STOP = enum.auto()
    """The answer to a beat may have changed: a claim is not wanted any more, or the lease is lost."""
    HANDED = enum.auto()
    """Requests were handed to the worker: `Ledger.handed` returns them."""


@attrs.frozen
class SlotOffer:
    """A running request that a worker would give up."""

    request_id: str
    epoch: int
    tokens: int
    """The most tokens that the log may have for this. The worker has looked whether another worker could go on with an
    answer of this length, and the offer may arrive after an append."""


@attrs.frozen
class Preemption:
    """Two requests that changed places at a worker."""

    given_up: tuple[str, int]
    """The id and the epoch of the claim that is over: the request waits in its old place again."""
    claim: Claim
    """The request that has the slot now."""


class AppendEntry(msgspec.Struct, frozen=True, gc=False):
    """New tokens of one request, and its terminal event if these tokens are the last."""

    request_id: str
    epoch: int
    first_seq: int
    """The seq of `deltas[0]`; without deltas, the seq of the terminal event."""
    deltas: Sequence[TokenDelta] = ()
    end: Terminal | None = None


@attrs.frozen
class AppendResult:
    """The answer to one entry."""

    outcome: AppendOutcome
    next_seq: int = 0
    """With GAP, the seq to send again from."""


@attrs.frozen
class BeatResult:
    """The answer to a beat."""

    live: bool
    """False: the lease was lost, and the worker's requests went back to the queue. The worker drops everything and
    starts a new incarnation."""
    stop: tuple[tuple[str, int], ...] = ()
    """(request id, epoch) of this worker's requests that were cancelled or have expired. Each beat repeats a stop for
    `lease_s`, since any one answer may be lost."""


class LogSlice(msgspec.Struct, frozen=True, gc=False):
    """A part of a request's log. `deltas[0]` has `first_seq`; `end`, if reached, has the seq after the last delta."""

    first_seq: int
    deltas: Sequence[TokenDelta]
    end: Terminal | None = None

    @property
    def end_seq(self) -> int:
        """The seq of the terminal event. Meaningful only where `end` is set."""
        return self.first_seq + len(self.deltas)


@attrs.frozen
class RequestInfo:
    """The state of a request, without its log."""

    request: GenerateRequest
    state: str
    """`queued`, `running` or `ended`."""
    epoch: int
    attempt: int
    last_seq: int
    """The seq of the last entry in the log, the terminal event included; 0 while the log is empty."""
    claims: tuple[ClaimNote, ...] = ()
    """The newest claims of the request, oldest first, at most `CLAIMS_KEPT`."""


@attrs.frozen
class DeadRequest:
    """A dead letter: a request that the ledger gave up, and why."""

    request: GenerateRequest
    attempt: int
    """How often the request was tried."""
    cause: str
    at_ms: int
    """When the ledger gave up the request, in milliseconds since 1970."""

    def resubmission(self, new_id: str) -> GenerateRequest:
        """The same request as a new one, which `requeue` submits: without a deadline, as the old one has passed."""
        timeless = attrs.evolve(self.request, deadline_ms=None, timeout_ms=None)
        return attrs.evolve(timeless, id=new_id, resume_grace_ms=REQUEUED_GRACE_MS)


def no_such_dead_letter(request_id: str) -> NotFound:
    """The error of an operation on a dead letter that is not there."""
    return NotFound(f"there is no dead letter {request_id}")


@attrs.frozen(order=True)
class QueueDepth:
    """How many requests of one priority class wait for one model."""

    model: str
    priority: int
    waiting: int


@attrs.frozen(order=True)
class ModelDemand:
    """What waits for one model in one priority class."""

    model: str
    priority: int
    waiting: int
    oldest_s: float
    """How long the request that came first has waited since it was queued last, in seconds."""


@attrs.frozen
class QueueView:
    """What one of several ledgers, the shards of a whole, says of the queues of one model."""

    waiting: Mapping[int, int]
    """How many tenants wait in each priority class."""
    served: Mapping[int, float]
    """The virtual time of the queue of each of these classes."""
    claimers: Sequence[str]
    """The workers that have looked at these queues of late."""


@attrs.frozen
class QueuePlace:
    """The place of a waiting request in the queue of its model."""

    model: str
    place: int
    """About how many claims of its model it takes until this request is claimed: 1 for the next request."""
    wait_s: float | None
    """An estimate of the time until the claim, in seconds; None while it is not known how fast the queue moves."""


@attrs.frozen
class LedgerStatistics:
    """Counts at one moment. Counts whose names end in `_total` only rise."""

    queued: int
    running: int
    ended: int
    """Ended requests whose logs can still be read."""
    queued_bytes: int
    log_tokens: int
    workers: int
    dead_letters: int
    quarantined: int
    accepted_total: int
    ended_total: int
    requeued_total: int
    """How often a request went back to the queue after its worker was lost or its backend crashed."""
    fenced_total: int
