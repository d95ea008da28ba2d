"""What the gateway does for a caller, whatever the caller speaks: admit, follow, cancel.

Errors are `errors.LlmactorsError`; each front renders them its own way.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import attrs
import trio

from llmactors.access.authentication import Caller
from llmactors.actors import ActorRef
from llmactors.backends.directory import ModelDirectory, ModelState
from llmactors.backends.fit import fit
from llmactors.errors import (
    ActorDied,
    Conflict,
    DeadlineExceeded,
    Expired,
    InvalidRequest,
    NotFound,
    Overloaded,
    TooLarge,
    Unavailable,
)
from llmactors.gateway.limit_reached import LimitReached
from llmactors.gateway.metrics import GatewayMetrics
from llmactors.gateway.native.schema import Ask
from llmactors.gateway.queue_hint import QueueHint
from llmactors.gateway.streaming.flusher import Flusher
from llmactors.gateway.streaming.pump import StreamTiming
from llmactors.http.request_id import keyed_request_id, new_request_id
from llmactors.ledger import Candidate, Follower, Ledger, LedgerStatistics, LogSlice, RequestInfo, SubmitOutcome
from llmactors.ledger.core.backlog import prompt_estimate, size_bytes
from llmactors.limiter import Charge, Standing, limit_headers
from llmactors.limiter.actor import Assess, Assessment
from llmactors.messages import GenerateRequest


@attrs.frozen
class ServiceSettings:
    """The bounds on what one caller may ask for. Times in seconds."""

    max_body_bytes: int = 1024 * 1024
    max_prompt_chars: int = 256 * 1024
    body_s: float = 30.0
    """How long a client may take to send its body."""
    resume_grace_s: float = 10.0
    """How long a native stream lives without a reader."""
    background_s: float = 3600.0
    """How long a response in the background lives without one."""
    limiter_s: float = 2.0
    """How long the limiter may take to answer."""
    max_socket_streams: int = 64
    """How many streams one WebSocket may follow at once."""
    pace: StreamTiming = attrs.field(factory=StreamTiming)


@attrs.frozen
class Admission:
    """An accepted request."""

    request: GenerateRequest
    standings: tuple[Standing, ...] = ()
    """How the caller stands with its limits now."""
    keyed: bool = False
    """Its client may come again with the same idempotency key, so that it is not given up when its client goes."""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What the answer says of the caller's limits."""
        return limit_headers(self.standings)


class Service:
    """One per gateway incarnation."""

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        ledger: Ledger,
        directory: ModelDirectory,
        metrics: GatewayMetrics,
        limiter: ActorRef | None = None,
        ledger_is_up: Callable[[], bool] = lambda: True,
        queue_hint: QueueHint | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.directory = directory
        self._draining = trio.Event()
        self._ledger = ledger
        self._ledger_is_up = ledger_is_up
        self._limiter = limiter
        self._open: set[trio.CancelScope] = set()
        self.flusher = Flusher(settings.pace, metrics)
        """Writes for all streams; whoever runs the service runs this as a task."""
        self.queue_hint = queue_hint
        """What is known of the room in a ledger that is a trip away; to be run likewise. None: to ask costs nothing."""

    def __repr__(self) -> str:
        return f"<Service {'draining' if self.draining else 'open'} models={self.directory.names}>"

    @property
    def draining(self) -> bool:
        """Whether this node takes no new requests any more."""
        return self._draining.is_set()

    def drain(self) -> None:
        """From now on no request is admitted; what is open goes on."""
        self._draining.set()

    async def wait_draining(self) -> None:
        """Returns once `drain` was called."""
        await self._draining.wait()

    async def admit(self, caller: Caller, body: Ask, key: str | None = None) -> Admission:
        """Puts a request into the ledger. Once this returns, the request is accepted: it will end exactly once.

        With an idempotency `key`: the same key and body again are the same request, at any gateway, also if the one
        that admitted it died before it could answer. Raises `Conflict` for another body.
        """
        [admission] = await self.admit_all(caller, [body], key)
        return admission

    async def admit_all(self, caller: Caller, bodies: Sequence[Ask], key: str | None = None) -> list[Admission]:
        """As `admit`, for what belongs together: all are admitted, or none is and nothing is charged."""
        if self.draining:
            raise Unavailable("this node is shutting down", retry_after_s=1.0)
        requests = [self._request(caller, body, _keyed(key, number)) for number, body in enumerate(bodies)]
        if key is not None and (known := await self._known(requests)) is not None:
            return known
        sizes = [size_bytes(request) for request in requests]
        if self.queue_hint is not None and self.queue_hint.lacks(sizes):
            raise _no_room()
        # All wait in the same line, one after the other: as long as the first waits, it must.
        await self._check_start(requests[0])
        charges = await self._charges(caller, requests)
        candidates = [Candidate(request, each) for request, each in zip(requests, charges, strict=True)]
        if self.queue_hint is not None:
            self.queue_hint.send(sizes)
        verdict = await self._ledger.admit(candidates)
        match verdict.outcome:
            case SubmitOutcome.OVERLOADED:
                if self.queue_hint is not None:
                    self.queue_hint.refused()
                raise _no_room()
            case SubmitOutcome.LIMITED:
                raise self._limited(verdict.standings)
            case SubmitOutcome.CONFLICT:
                # Somebody was quicker with the same key.
                if (known := await self._known(requests)) is None:
                    raise Conflict("this idempotency key is used by two calls at once")
                return known
        return [Admission(request, verdict.standings, keyed=key is not None) for request in requests]

    def _request(self, caller: Caller, body: Ask, key: str | None) -> GenerateRequest:
        request = body.to_request(
            new_request_id() if key is None else keyed_request_id(caller.tenant, key),
            model=self._checked_model(caller, body),
            tenant=caller.tenant,
            resume_grace_s=self.settings.resume_grace_s,
        )
        # A class is a wish for order, and most clients never utter one: a better one than the key's is the key's.
        priority = max(request.priority, caller.best_priority)
        request = attrs.evolve(request, priority=priority, weight=caller.weight)
        self._check_capable(request)
        return request

    async def _charges(self, caller: Caller, requests: Sequence[GenerateRequest]) -> Sequence[tuple[Charge, ...]]:
        """What each of them is charged. Raises `LimitReached` where this gateway's share is used up."""
        if self._limiter is None:
            return [()] * len(requests)
        tokens = tuple(prompt_estimate(request) + request.max_tokens for request in requests)
        question = Assess(caller.tenant, caller.limit_key, caller.limits, tokens)
        assessment = await self._ask_limiter(self._limiter, question)
        if not assessment.admitted:
            raise self._limited(assessment.standings)
        return assessment.charges

    async def _ask_limiter(self, limiter: ActorRef, question: Assess) -> Assessment:
        for last_try in (False, True):
            with trio.move_on_after(self.settings.limiter_s):
                try:
                    answer = await limiter.ask(question)
                except ActorDied:
                    # It died with this question in hand, which the ledger has charged nothing for: ask its successor.
                    if last_try:
                        raise
                    continue
                assert isinstance(answer, Assessment)  # noqa: S101 - the limiter has one kind of answer
                return answer
        raise Unavailable("the rate limiter does not answer", retry_after_s=1.0)

    def _limited(self, standings: tuple[Standing, ...]) -> LimitReached:
        error = LimitReached(standings)
        self.metrics.limited(error.limit.value)
        return error

    async def _known(self, requests: Sequence[GenerateRequest]) -> list[Admission] | None:
        """What was admitted under these ids before; None where none was. Raises `Conflict`."""
        found = [await self._known_one(request) for request in requests]
        if not any(found):
            return None
        if not all(found):
            raise Conflict("this idempotency key was used before with another request")
        return [Admission(request, keyed=True) for request in found if request is not None]

    async def _known_one(self, request: GenerateRequest) -> GenerateRequest | None:
        try:
            known = (await self._ledger.info(request.id)).request
        except NotFound:
            return None
        except Expired:
            raise Expired(
                "this idempotency key was used before, and the answer to it is no longer kept; "
                "send another key to ask anew"
            ) from None
        # Times of asking differ, and with them deadlines, which are so long from then; the rest is the operator's.
        same = attrs.evolve(
            known,
            created_ms=request.created_ms,
            deadline_ms=request.deadline_ms,
            weight=request.weight,
            resume_grace_ms=request.resume_grace_ms,
        )
        if same != request:
            raise Conflict("this idempotency key was used before with another request")
        return known

    async def follow(self, caller: Caller, request_id: str, after: int) -> Follower | None:
        """A reader of a stream of this caller's; None where it has ended and nothing comes after `after`.

        Raises `NotFound`, also for another tenant's stream, or `Expired`.
        """
        info = await self._own(caller, request_id)
        if info.state == "ended" and after >= info.last_seq:
            return None
        return await self._ledger.follow(request_id, after)

    async def info(self, caller: Caller, request_id: str) -> RequestInfo:
        """How far a request of this caller's is. Raises as `follow`."""
        return await self._own(caller, request_id)

    async def read(self, request_id: str) -> LogSlice:
        """All that is in the log of a request that was asked for by `info`. It does not count as a reader."""
        return await self._ledger.read(request_id)

    async def own_follower(self, admission: Admission) -> Follower:
        """A reader of what was just admitted, from its beginning."""
        return await self._ledger.follow(admission.request.id)

    async def cancel(self, caller: Caller, request_id: str) -> bool:
        """Ends a stream of this caller's now. False where it had ended before. Raises as `follow`."""
        await self._own(caller, request_id)
        return await self._ledger.cancel(request_id)

    async def abandon(self, request_id: str) -> None:
        """Ends a request whose only possible reader is gone."""
        await self._ledger.cancel(request_id)

    @contextlib.contextmanager
    def cuttable(self) -> Iterator[trio.CancelScope]:
        """Around whatever waits for a stream to end: a shutdown that has run out of time cancels this scope."""
        with trio.CancelScope() as scope:
            self._open.add(scope)
            try:
                yield scope
            finally:
                self._open.discard(scope)

    def cut(self) -> None:
        """Ends everything that is still open, because the node cannot wait any longer."""
        for scope in self._open:
            scope.cancel(reason="the node shuts down and its drain time is over")

    def readiness(self) -> dict[str, str]:
        """What keeps this node from taking requests, by component; empty when it is ready."""
        problems: dict[str, str] = {}
        if self.draining:
            problems["gateway"] = "draining"
        if not self._ledger_is_up():
            problems["ledger"] = "the ledger is away"
        return problems | self.directory.problems()

    async def ledger_statistics(self) -> LedgerStatistics:
        """For health reports. Raises `Unavailable` when the ledger is away."""
        return await self._ledger.statistics()

    async def _own(self, caller: Caller, request_id: str) -> RequestInfo:
        info = await self._ledger.info(request_id)
        if info.request.tenant != caller.tenant:
            raise NotFound("there is no such stream")
        return info

    def models_for(self, caller: Caller) -> tuple[str, ...]:
        """What is served of what the caller may use; for this caller there are no others."""
        names = self.directory.names
        return names if caller.models is None else tuple(name for name in names if name in caller.models)

    def _checked_model(self, caller: Caller, body: Ask) -> str:
        if not self.directory.names:
            raise Unavailable("no worker has joined yet", retry_after_s=2.0)
        names = self.models_for(caller)
        if not names:
            raise NotFound("no model that this API key may use is served here")
        name = body.model or names[0]
        status = self.directory.get(name)
        if status is None or name not in names:
            raise NotFound(f"there is no such model; this node serves: {', '.join(names)}")
        if body.prompt_chars > self.settings.max_prompt_chars:
            raise TooLarge(
                f"the prompt has {body.prompt_chars} characters; at most {self.settings.max_prompt_chars} are accepted"
            )
        if status.state is ModelState.GONE:
            raise Unavailable(f'no worker serves "{name}" at the moment', retry_after_s=2.0)
        if status.capabilities is None:
            raise Unavailable(f"model {name} is still starting", retry_after_s=2.0)
        return name

    def _check_capable(self, request: GenerateRequest) -> None:
        """Refuses what the model's backend does not do, or has no room for."""
        status = self.directory.get(request.model)
        if status is None or status.capabilities is None:
            return
        refusal = status.capabilities.refusal(request)
        if refusal is not None:
            raise refusal
        context = status.capabilities.context_tokens
        if request.max_tokens >= context and not request.max_tokens_fit:
            raise InvalidRequest(
                f"`max_tokens`: {request.max_tokens} leaves no room for a prompt: "
                f"the context of {request.model} is {context} tokens"
            )
        fit(request, len(request.prompt_ids), context)

    async def _check_start(self, request: GenerateRequest) -> None:
        """Refuses at once what could not even start before its deadline."""
        if request.deadline_ms is None:
            return
        left_s = request.deadline_ms / 1000 - time.time()
        if left_s <= 0:
            raise DeadlineExceeded("the deadline passed before the request came")
        wait_s = await self._ledger.expected_wait_s(request)
        if wait_s > left_s:
            raise Overloaded(
                f"it would start in about {wait_s:.1f} s, after its deadline; try again later, or allow more time",
                retry_after_s=max(1.0, wait_s - left_s),
            )


def _keyed(key: str | None, number: int) -> str | None:
    """The key of one of several that belong together: of the first, the key itself."""
    return key if key is None or number == 0 else f"{key}\0{number}"


def _no_room() -> Overloaded:
    return Overloaded("the queue is full; try again in a moment", retry_after_s=1.0)


def cut_error() -> Unavailable:
    """What a stream ends with that was cut by `Service.cut`."""
    return Unavailable("the node shut down before the answer was complete", retry_after_s=1.0)
