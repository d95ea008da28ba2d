"""Admission: whether a request is accepted, and what its caller is charged. An accepted request ends exactly once."""

import math
from collections.abc import Callable, Mapping, Sequence

import attrs

from llmactors.access.authentication import Caller
from llmactors.backends.base import Capabilities
from llmactors.backends.directory import ModelDirectory, ModelState
from llmactors.backends.fit import fit
from llmactors.errors import (
    Conflict,
    DeadlineExceeded,
    Expired,
    InvalidRequest,
    Overloaded,
    TooLarge,
    Unavailable,
)
from llmactors.gateway.admitted_calls import Admission, AdmittedCalls
from llmactors.gateway.answer_rules import AnswerRules, refusal, response_format, tool_use
from llmactors.gateway.body import GenerationBody
from llmactors.gateway.limit_check import LimitCheck
from llmactors.gateway.limit_reached import LimitReached
from llmactors.gateway.outages import Outages
from llmactors.gateway.placing import Placing
from llmactors.gateway.queue_hint import QueueHint
from llmactors.gateway.reasoning_effort import served_effort, tags_with
from llmactors.gateway.rule_fixer import RuleFixer
from llmactors.gateway.settings import GatewaySettings
from llmactors.gateway.unknown_model import UnknownModel
from llmactors.http.held_request import HeldCall
from llmactors.http.request_id import request_id_of
from llmactors.ledger import Candidate, Ledger, RequestSize, SubmitOutcome
from llmactors.ledger.sharded.placement import Placement
from llmactors.limiter import Charge, Standing
from llmactors.messages import GenerateRequest, TraceContext
from llmactors.telemetry import Metrics


class Admitter:
    """Puts requests into the ledger.

    Args:
        limit_check: Says what callers are charged.
        queue_hint: What is known of the queue's room, where the ledger is a round trip away; else None.
        outages: Waits for the ledger, for requests that were accepted before.
        check_takes_work: Raises the error for new requests where the node takes none.
        placement: Says on which shard of the ledger a request lives; None for a ledger without shards.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        ledger: Ledger,
        directory: ModelDirectory,
        metrics: Metrics,
        limit_check: LimitCheck,
        queue_hint: QueueHint | None,
        outages: Outages,
        check_takes_work: Callable[[], None],
        placement: Placement | None = None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._directory = directory
        self._metrics = metrics
        self._limit_check = limit_check
        self._queue_hint = queue_hint
        self._rule_fixer = RuleFixer()
        self._check_takes_work = check_takes_work
        self.placing = Placing(limit_check, placement)
        self.admitted = AdmittedCalls(ledger, outages, self.placing)

    def __repr__(self) -> str:
        return f"<Admitter models={self._directory.names}>"

    async def admit_all(
        self,
        caller: Caller,
        bodies: Sequence[GenerationBody],
        key: str | None = None,
        *,
        only_known: bool = False,
        session: str = "",
        trace: TraceContext | None = None,
        held: HeldCall | None = None,
    ) -> list[Admission]:
        """Admits requests that belong together: all of them, or none, and then nothing is charged.

        A second call with the same idempotency `key` and the same body is the same request, at any gateway, also if the
        gateway that admitted the request died before it could answer. With `only_known`, nothing is admitted that was
        not admitted before. `session` is the client's name of the conversation, and `trace` the trace of the call. A
        call that is `held` has the same ids whichever gateway reads it, as if its place were its key.

        Raises `Conflict` for the same key with another body, `Expired` for a request that is not known any more, and
        any error that `errors` has for a request that is refused.
        """
        # First of all: an admitted request goes on also while no worker serves its model, or this node drains.
        if (admitted := await self.admitted.before(caller, len(bodies), key, held)) is not None:
            return admitted
        origin = None if key is not None or held is None else held.origin
        if key is None:
            self._check_takes_work()
        requests = await self._requests(caller, bodies, key, origin, session, trace)
        if key is not None:
            # What was admitted under the key is answered also by a node that takes no new requests.
            if (known := await self.admitted.of_same_call(requests)) is not None:
                return known
            self._check_takes_work()
        if only_known:
            raise Expired("the stream of this idempotency key is no longer kept; send the call without `Last-Event-ID`")
        standings = await self._submit(caller, requests)
        if standings is not None:
            return [Admission(request, standings, keyed=key is not None) for request in requests]
        # Another call with the same key was admitted between the look and this call; or the last words of the gateway
        # that had this connection before have reached the ledger only now.
        found = await (
            self.admitted.of_same_call(requests)
            if origin is None
            else self.admitted.under([each.id for each in requests])
        )
        if found is None:
            raise Conflict("this idempotency key is used by two calls at once")
        return found

    async def _submit(self, caller: Caller, requests: Sequence[GenerateRequest]) -> tuple[Standing, ...] | None:
        """Puts new requests into the ledger. Returns None where the ledger knows their ids."""
        self._check_served(requests[0].model)
        sizes = [RequestSize.of(request) for request in requests]
        size_bytes = [size.bytes for size in sizes]
        if self._queue_hint is not None and self._queue_hint.lacks(size_bytes):
            raise _queue_full()
        # The requests wait one after the other in one queue, so that the first one's wait is the shortest.
        await self._check_start(requests[0])
        charges = await self._charges(caller, requests, sizes)
        candidates = [Candidate(*each) for each in zip(requests, charges, sizes, strict=True)]
        if self._queue_hint is not None:
            self._queue_hint.send(size_bytes)
        result = await self._ledger.admit(candidates)
        match result.outcome:
            case SubmitOutcome.OVERLOADED:
                if self._queue_hint is not None:
                    self._queue_hint.refused()
                raise _queue_full()
            case SubmitOutcome.LIMITED:
                raise self._limited(result.standings)
            case SubmitOutcome.CONFLICT:
                return None
        return result.standings

    async def _requests(
        self,
        caller: Caller,
        bodies: Sequence[GenerationBody],
        key: str | None,
        origin: str | None,
        session: str,
        trace: TraceContext | None,
    ) -> list[GenerateRequest]:
        """The requests of a call, which the model can serve. Raises the errors of a request that is refused."""
        requests = [
            self._request(caller, body, request_id_of(caller.tenant, key, origin, number), session)
            for number, body in enumerate(bodies)
        ]
        if trace is not None:
            requests = [attrs.evolve(request, trace=trace) for request in requests]
        if (rules := bodies[0].rules) is not None:
            requests = await self._with_rules(requests, rules)
        for request in requests:
            self._check_capable(request, bodies[0].field_names)
        return self.placing.placed(caller, requests, keyed=key is not None, session=session)

    def _request(self, caller: Caller, body: GenerationBody, request_id: str, session: str) -> GenerateRequest:
        request = body.to_request(
            request_id,
            model=self._checked_model(caller, body),
            tenant=caller.tenant,
            # Most clients never choose a class, so a class better than the key allows is lowered, and not refused.
            priority=max(body.priority, caller.best_priority),
            weight=caller.weight,
            resume_grace_s=self._settings.resume_grace_s,
            session=session,
        )
        price = self._limit_check.prices.get(request.model)
        request = request.paid_by(caller.key_id, price)
        capabilities = self._capabilities(request.model)
        if request.reasoning_effort:
            effort = served_effort(request.reasoning_effort, capabilities)
            request = attrs.evolve(request, reasoning_effort=effort)
        tags = tags_with(capabilities.reasoning_tags, request.reasoning_effort)
        return request if tags is None or request.raw else attrs.evolve(request, reasoning_tags=tags)

    async def _with_rules(self, requests: Sequence[GenerateRequest], rules: AnswerRules) -> list[GenerateRequest]:
        """The requests of one call with their tools and their constraint. Raises `InvalidRequest`."""
        declared = self._capabilities(requests[0].model)
        capabilities = attrs.evolve(declared, reasoning_tags=requests[0].reasoning_tags)
        if (error := refusal(rules, capabilities)) is not None:
            raise error
        tools = tool_use(rules, capabilities)
        constraint = await self._rule_fixer.constraint(rules, capabilities)
        form = response_format(rules, capabilities)
        return [attrs.evolve(request, tools=tools, constraint=constraint, response_format=form) for request in requests]

    async def _charges(
        self, caller: Caller, requests: Sequence[GenerateRequest], sizes: Sequence[RequestSize]
    ) -> Sequence[tuple[Charge, ...]]:
        """What each request is charged. Raises `LimitReached` where this gateway's share of a limit is used up."""
        reserved = [
            (
                size.prompt_tokens + each.max_tokens,
                0 if each.price is None else each.price.most_nano(size.prompt_tokens, each.max_tokens),
            )
            for each, size in zip(requests, sizes, strict=True)
        ]
        charges = self._limit_check.charges(caller, reserved)
        standings = await self._limit_check.take_share(charges)
        if not all(standing.decision.admitted for standing in standings):
            raise self._limited(standings)
        return charges

    def _limited(self, standings: tuple[Standing, ...]) -> LimitReached:
        error = LimitReached(standings)
        self._metrics.limited(error.limit.value)
        return error

    def _checked_model(self, caller: Caller, body: GenerationBody) -> str:
        if not self._directory.names:
            raise Unavailable("no worker has joined yet", retry_after_s=2.0)
        names = models_for(caller, self._directory)
        if not names:
            raise UnknownModel("no model that this API key may use is served here")
        name = body.model or names[0]
        status = self._directory.get(name)
        if status is None or name not in names:
            raise UnknownModel(f"there is no such model; this node serves: {', '.join(names)}")
        if body.prompt_chars > self._settings.max_prompt_chars:
            raise TooLarge(
                f"the prompt has {body.prompt_chars} characters; at most {self._settings.max_prompt_chars} are accepted"
            )
        if status.capabilities is None:
            self._check_served(name)
            raise Unavailable(f"model {name} is still starting", retry_after_s=2.0)
        return name

    def _check_served(self, name: str) -> None:
        """Refuses new requests for a model whose last worker has left."""
        status = self._directory.get(name)
        if status is not None and status.state is ModelState.GONE:
            raise Unavailable(f'no worker serves "{name}" at the moment', retry_after_s=2.0)

    def _check_capable(self, request: GenerateRequest, field_names: Mapping[str, str]) -> None:
        """Refuses what the model's backend cannot do, or what does not fit into the model's context."""
        capabilities = self._capabilities(request.model)
        if (error := capabilities.refusal(request, field_names)) is not None:
            raise error
        if not capabilities.tool_format and any(each.tool_calls or each.role == "tool" for each in request.messages):
            field = field_names.get("messages", "messages")
            raise InvalidRequest(f"`{field}` has calls of tools, which this model does not know; leave them out")
        context = capabilities.context_tokens
        if request.max_tokens >= context and not request.max_tokens_fit:
            raise InvalidRequest(
                f"`max_tokens`: {request.max_tokens} leaves no room for a prompt: "
                f"the context of {request.model} is {context} tokens"
            )
        fit(request, len(request.prompt_ids), context)

    def _capabilities(self, model: str) -> Capabilities:
        """What a model's backend declares. `_checked_model` has seen that there is a declaration."""
        status = self._directory.get(model)
        assert status is not None  # noqa: S101 - for mypy
        assert status.capabilities is not None  # noqa: S101 - for mypy
        return status.capabilities

    async def _check_start(self, request: GenerateRequest) -> None:
        """Refuses at once a request that could not start before its deadline."""
        left_s = math.inf if request.timeout_ms is None else request.timeout_ms / 1000
        if request.deadline_ms is not None:
            left_s = min(left_s, (request.deadline_ms - await self._ledger.now_ms()) / 1000)
        if left_s == math.inf:
            return
        if left_s <= 0:
            raise DeadlineExceeded("the deadline had passed before the request came")
        wait_s = await self._ledger.expected_wait_s(request) + (self._directory.load_s(request.model) or 0.0)
        if wait_s > left_s:
            raise Overloaded(
                f"the request would start in about {wait_s:.1f} s, after its deadline; "
                "try again later, or allow more time",
                retry_after_s=max(1.0, wait_s - left_s),
            )


def _queue_full() -> Overloaded:
    return Overloaded("the queue is full; try again in a moment", retry_after_s=1.0)


def models_for(caller: Caller, directory: ModelDirectory) -> tuple[str, ...]:
    """The served models that the caller may use. Other models are answered as if they did not exist."""
    names = directory.names
    return names if caller.models is None else tuple(name for name in names if name in caller.models)
