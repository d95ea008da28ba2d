"""The JSON of the native routes, in both directions."""

from collections.abc import Mapping
from typing import Annotated, Literal

import attrs
import msgspec

from llmactors.gateway.answer_rules import AnswerRules
from llmactors.gateway.body import MAX_STOP_CHARS, MAX_STOPS, NonEmpty
from llmactors.gateway.conversation_key import conversation_of
from llmactors.gateway.sampling import SamplingFields, defaulted_fields
from llmactors.messages import FinishReason, GenerateRequest


@attrs.frozen(kw_only=True)
class GenerateBody(SamplingFields):
    """The body of `POST /v1/generate`."""

    prompt: NonEmpty
    model: NonEmpty | None = None
    """None: the node's first model."""
    max_tokens: Annotated[int, msgspec.Meta(ge=1, lt=2**31)] = 64
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    """None: 0.7, or what an upstream takes by itself."""
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    """None: 1, or what an upstream takes by itself."""
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] | None = None
    stop: (
        Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_STOP_CHARS)]
        | Annotated[
            list[Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_STOP_CHARS)]],
            msgspec.Meta(max_length=MAX_STOPS),
        ]
        | None
    ) = None
    stream: bool = False
    raw: bool = False
    """True: the prompt goes to the model as it is, without the model's chat template."""
    deadline_ms: Annotated[int, msgspec.Meta(ge=1, le=86_400_000)] | None = None
    """How long the caller will wait, in milliseconds from now; a day at most."""
    priority: Annotated[int, msgspec.Meta(ge=0, le=2)] = 1

    @property
    def prompt_chars(self) -> int:
        return len(self.prompt)

    @property
    def rules(self) -> AnswerRules | None:
        """Free text: this API has no tools."""
        return None

    def to_request(
        self,
        request_id: str,
        *,
        model: str,
        tenant: str,
        priority: int,
        weight: float,
        resume_grace_s: float,
        session: str = "",
    ) -> GenerateRequest:
        """The request that goes to the ledger."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        raw_prompt = self.prompt if self.raw else ""
        conversation, follows_up = conversation_of(tenant, session, raw_prompt=raw_prompt)
        return GenerateRequest(
            id=request_id,
            model=model,
            prompt=self.prompt,
            max_tokens=self.max_tokens,
            temperature=0.7 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            defaulted=defaulted_fields(self.temperature, self.top_p),
            seed=self.seed,
            stop=stop,
            raw=self.raw,
            tenant=tenant,
            priority=priority,
            weight=weight,
            timeout_ms=self.deadline_ms,
            resume_grace_ms=int(resume_grace_s * 1000),
            conversation=conversation,
            follows_up=follows_up,
            **self.sampling(self.max_tokens),
        )


@attrs.frozen
class BodyWithDeadline:
    """A body whose caller also set `X-Request-Deadline`: the earlier of the two times holds."""

    body: GenerateBody
    deadline_ms: int
    """In milliseconds since 1970, by the ledger's clock."""

    @property
    def model(self) -> str | None:
        return self.body.model

    @property
    def max_tokens(self) -> int:
        return self.body.max_tokens

    @property
    def priority(self) -> int:
        return self.body.priority

    @property
    def prompt_chars(self) -> int:
        return self.body.prompt_chars

    @property
    def rules(self) -> AnswerRules | None:
        """Free text: this API has no tools."""
        return None

    @property
    def field_names(self) -> Mapping[str, str]:
        return self.body.field_names

    def to_request(
        self,
        request_id: str,
        *,
        model: str,
        tenant: str,
        priority: int,
        weight: float,
        resume_grace_s: float,
        session: str = "",
    ) -> GenerateRequest:
        """The request that goes to the ledger."""
        request = self.body.to_request(
            request_id,
            model=model,
            tenant=tenant,
            priority=priority,
            weight=weight,
            resume_grace_s=resume_grace_s,
            session=session,
        )
        return attrs.evolve(request, deadline_ms=self.deadline_ms)


@attrs.frozen(kw_only=True)
class AttachOp:
    """`{"op":"attach"}` on a WebSocket: follow a stream after seq `after`."""

    id: NonEmpty
    after: Annotated[int, msgspec.Meta(ge=0, lt=10**15)] = 0


@attrs.frozen(kw_only=True)
class CancelOp:
    """`{"op":"cancel"}` on a WebSocket."""

    id: NonEmpty


@attrs.frozen
class UsageCounts:
    """The number of tokens of a prompt and its answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    """How many tokens of the prompt came from a cache."""


@attrs.frozen
class Generated:
    """The body of a whole answer of `POST /v1/generate`."""

    id: str
    model: str
    text: str
    finish_reason: FinishReason
    usage: UsageCounts


@attrs.frozen
class StreamStatus:
    """The body of an answer of `GET /v1/streams/{id}?status`."""

    id: str
    state: Literal["queued", "running", "ended"]
    place: int | None
    """About how many requests of the model are served up to this one; null where the request does not wait."""
    estimate_s: float | None
    """How long the wait will probably be, in seconds; null where the request does not wait, or nobody can say."""
    tokens: int
    """The number of tokens in the log."""
    attempts: int
    """How many times a worker has begun the request, as far as the attempts count."""


@attrs.frozen
class Cancelled:
    """The body of an answer of `DELETE /v1/streams/{id}`. `cancelled` is false where the stream had ended before."""

    id: str
    cancelled: bool


@attrs.frozen
class SocketTicket:
    """The body of an answer of `POST /v1/ws/tickets`. A ticket opens one WebSocket or one stream."""

    ticket: str
    expires_in_s: int
