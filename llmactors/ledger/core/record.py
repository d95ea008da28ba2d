"""The state of one request, and its token log."""

import math
from typing import Literal

import attrs

from llmactors.ledger.core.fair_queue import QueueEntry
from llmactors.ledger.core.silence import Loss
from llmactors.ledger.core.token_log import TokenLog
from llmactors.ledger.inspection import RequestTimes, RequestView
from llmactors.ledger.request_size import RequestSize
from llmactors.ledger.settings import TOKEN_BYTES
from llmactors.ledger.values import CLAIM_DETAIL_CHARS, CLAIMS_KEPT, ClaimEnd, ClaimNote, RequestInfo
from llmactors.limiter.store import Reservation
from llmactors.messages import GenerateRequest


@attrs.define(eq=False)
class Record(TokenLog):
    """The state of one request. `Lifecycle` changes it; followers only read it."""

    request: GenerateRequest
    queue_entry: QueueEntry
    size: RequestSize
    due: float = math.inf
    """When the request expires; monotonic, in seconds."""
    extra_bytes: int = 0
    """The memory of what the log's tokens carry beside their texts; 0 before the end of the log."""
    ended_at: float = 0.0
    """When the request ended; monotonic, in seconds."""
    read_at: float = 0.0
    """When a follower of the ended request was last opened or closed; monotonic, in seconds."""
    ended_by: int = 0
    """The epoch whose worker ended the request; 0 where a client or a time limit ended it."""
    epoch: int = 0
    attempt: int = 0
    """How many attempts count, the one that runs included."""
    losses: dict[str, Loss] = attrs.field(factory=dict)
    """The attempts whose workers fell silent and have not beaten since, by worker."""
    quarantined: bool = False
    queued_at: float = 0.0
    """When the request was last put into the queue; monotonic, in seconds."""
    claimed_at: float = 0.0
    """When the request was last claimed; monotonic, in seconds."""
    queue_s: float = 0.0
    """How long the request waited until its last claim, over all attempts."""
    run_s: float = 0.0
    """How long workers held the request, over all attempts that are over."""
    preemptions: int = 0
    """How often the request gave its slot to a request of a more urgent class."""
    holder: str | None = None
    """The worker that runs the request."""
    claims: list[ClaimNote] = attrs.field(factory=list)
    """The newest claims, the one that holds included, oldest first."""
    reserved_for: str | None = None
    """The busy worker that gets the request once that worker is empty."""
    admitted_at: float = 0.0
    """When the request was admitted; monotonic, in seconds."""
    admitted_ms: int = 0
    """When the request was admitted, in milliseconds since 1970. So are the next two."""
    first_token_ms: int | None = None
    ended_ms: int | None = None
    claimed_tokens: int = 0
    """The length of the log at the last claim."""
    claimed: int = 0
    """How many claims of the request there were."""
    holds: tuple[Reservation, ...] = ()
    """What is reserved for the request of its caller's limits."""

    @property
    def state(self) -> Literal["queued", "running", "ended"]:
        if self.end is not None:
            return "ended"
        return "queued" if self.holder is None else "running"

    @property
    def retained_tokens(self) -> int:
        """How much the request and its log count against `retained_tokens_max`."""
        return len(self.tokens) + (self.extra_bytes + self.size.bytes) // TOKEN_BYTES

    @property
    def silent_attempts(self) -> int:
        """How many of the attempts that count ended in silence only."""
        return sum(loss.charged for loss in self.losses.values())

    @property
    def deaths(self) -> int:
        """How many attempts ended in a death that was seen, of a worker or a backend."""
        return self.attempt - self.silent_attempts - (self.holder is not None)

    def note_claim(self, worker: str, at_ms: int) -> None:
        """Remembers that `worker` has claimed the request under the present epoch."""
        self.claims.append(ClaimNote(self.epoch, worker, at_ms))
        del self.claims[:-CLAIMS_KEPT]

    def note_claim_end(self, ended: ClaimEnd, detail: str) -> None:
        """Remembers why the newest claim is over."""
        self.claims[-1] = attrs.evolve(self.claims[-1], ended=ended, detail=detail[:CLAIM_DETAIL_CHARS])

    def view(self, now: float) -> RequestView:
        """The request as operators see it. `now` is monotonic, in seconds."""
        request = self.request
        return RequestView(
            id=request.id,
            tenant=request.tenant,
            model=request.model,
            priority=request.priority,
            state=self.state,
            age_s=now - self.admitted_at,
            tokens=len(self.tokens),
            attempt=self.attempt,
            epoch=self.epoch,
            worker=self.holder,
            takeovers=max(0, self.claimed - 1),
            key_id=request.key_id,
        )

    def times(self, now: float) -> RequestTimes:
        """The request with the times of its life. `now` is as for `view`."""
        return RequestTimes(
            view=self.view(now),
            admitted_ms=self.admitted_ms,
            first_token_ms=self.first_token_ms,
            ended_ms=self.ended_ms,
            end=self.end,
            claims=tuple(self.claims),
        )

    def info(self) -> RequestInfo:
        return RequestInfo(self.request, self.state, self.epoch, self.attempt, self.last_seq, tuple(self.claims))
