"""The Protocols that every backend follows: the mock, llama.cpp, remote APIs and users' own backends.

There are two kinds:

- A **stepwise** backend decodes all its sequences one step at a time. `admit` adds a sequence, each call of `step`
  returns what every sequence produced, and `evict` drops a sequence. The backend actor makes one call at a time.
- A **streaming** backend batches by itself, as a server with its own scheduler does. `generate` yields the outputs of
  one sequence. The backend actor runs one `generate` per admitted sequence, and cancels it to evict the sequence.

An `errors.LlmactorsError` from `admit` or `generate` ends only that request. Any other exception of a backend ends the
incarnation of its actor, and the next incarnation makes a new backend.
"""

import enum
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import attrs
import msgspec

from llmactors.actors import leaves
from llmactors.errors import InvalidRequest
from llmactors.messages import CLIENT_FIELDS, FinishReason, GenerateRequest, ReasoningTags, TokenDelta
from llmactors.telemetry.tracing.tracer import Tracer


class BackendFrozen(RuntimeError):
    """A backend was stopped from outside, as SIGSTOP does. A new one is started, and no request is charged for that."""


def was_frozen(error: BaseException | None) -> bool:
    """Whether a backend ended with `error` because the backend was stopped from outside."""
    return error is not None and any(isinstance(leaf, BackendFrozen) for leaf in leaves(error))


class Takeover(enum.Enum):
    """What a backend can do with a sequence that another backend began."""

    EXACT = "exact"
    """The backend continues from the logged tokens, and the text is the text of an undisturbed run."""
    CONTINUE = "continue"
    """The backend continues from the logged tokens, and the rest is a valid continuation."""
    RESTART = "restart"
    """The backend can only begin again. A stream that has tokens already ends with `INTERRUPTED`."""


class Batching(enum.Enum):
    """When a sequence may join the sequences that a backend decodes."""

    CONTINUOUS = "continuous"
    """A sequence joins as soon as a slot is free."""
    STATIC = "static"
    """Sequences of one `max_tokens` begin together while the backend is empty, and that batch runs to its end."""


_REFUSALS = {
    "inputs": "`model`: this model makes no embeddings",
    "query": "`model`: this model ranks no documents",
    "images": "`{}` is an image, and this model takes no images",
    "image_links": "`{}` has the link of an image, and this model takes images only as `data:` URLs",
    "prompt_ids": "`prompt`: this model takes no token ids; send the text",
}
"""The texts of some refusals, the most telling one first. `{}` is the client's name of the field."""


@attrs.frozen
class Capabilities:
    """What a backend declares."""

    slots: int
    """How many sequences the backend decodes at once."""
    context_tokens: int
    """The most tokens that prompt and answer may have together."""
    takeover: Takeover
    batching: Batching = Batching.CONTINUOUS
    honours: frozenset[str] = frozenset()
    """The demands that the backend meets, named as in `GenerateRequest.demands`: a backend gets no request with another
    demand.

    These are texts and no enum because nodes of another version may know more fields."""
    omits: frozenset[str] = frozenset()
    """The fields in `GenerateRequest.given` that the backend does not follow: a request that gives one is refused."""
    tool_format: str = ""
    """The form in which the model writes calls of tools, a key of `tool_calls.formats.FORMATS`, as its chat template
    declares; empty for a model without tools."""
    answers: bool = True
    """Whether the model makes answers. A model that ranks documents may make nothing else."""
    reasoning_tags: ReasoningTags | None = None
    """The tags around the model's reasoning, as its chat template declares; None for a model without."""

    def refusal(
        self, request: GenerateRequest, field_names: Mapping[str, str] = CLIENT_FIELDS
    ) -> InvalidRequest | None:
        """Why a backend with these capabilities must not get `request`; None where the backend may.

        `field_names` has the client's names of fields of the request, where the names differ.
        """
        if not self.answers and not request.inputs:
            return InvalidRequest("`model`: this model makes no answers")
        if request.constraint is not None and (request.ignore_eos or request.min_tokens):
            name = "ignore_eos" if request.ignore_eos else "min_tokens"
            return InvalidRequest(f"`{name}`: an answer with a prescribed format ends with the format; leave it out")
        lacking = sorted((request.demands - self.honours) | (request.given & self.omits))
        if not lacking:
            return None
        field = next((each for each in _REFUSALS if each in lacking), lacking[0])
        name = field_names.get(field, CLIENT_FIELDS.get(field, field))
        return InvalidRequest(_REFUSALS.get(field, "`{}` is not served by this model; leave it out").format(name))


@attrs.frozen
class Job:
    """One request for a backend."""

    key: tuple[str, int]
    """The request's id and the epoch of its claim: no other job has the same key."""
    request: GenerateRequest
    tokens: tuple[TokenDelta, ...] = ()
    """The tokens that are in the log already. The backend produces what comes after them."""


class Output(msgspec.Struct, frozen=True, gc=False):
    """What one sequence produced in one step: new tokens, and the finish reason where these are the last."""

    key: tuple[str, int]
    deltas: Sequence[TokenDelta] = ()
    finish: FinishReason | None = None
    prompt_tokens: int = 0
    """The length of the prompt, set together with `finish`. 0: unknown."""
    cached_tokens: int = 0
    """How many tokens of the prompt came from a cache, set together with `finish`. 0: none, or unknown."""


@runtime_checkable
class StepwiseBackend(Protocol):
    """A backend that decodes all its sequences one step at a time; see the text of this module."""

    capabilities: Capabilities

    async def start(self) -> None:
        """Returns when the backend can serve requests. Raises `errors.ModelError` where it never can."""
        ...

    async def admit(self, job: Job) -> None:
        """Adds a sequence. Raises an `errors.LlmactorsError` where only this request is at fault."""
        ...

    async def step(self) -> list[Output]:
        """Makes one decode step. Called only while there are sequences. An output with `finish` ends its sequence."""
        ...

    def evict(self, key: tuple[str, int]) -> None:
        """Drops a sequence. Does nothing where the sequence is not there."""
        ...

    async def check(self) -> None:
        """Raises if the backend does not work any more. Called between steps, and while there are no sequences."""
        ...

    async def close(self) -> None:
        """Frees everything. Called once, also after a `start` that failed."""
        ...


@runtime_checkable
class StreamingBackend(Protocol):
    """A backend that batches by itself; see the text of this module."""

    capabilities: Capabilities

    async def start(self) -> None:
        """As `StepwiseBackend.start`."""
        ...

    def generate(self, job: Job) -> AsyncGenerator[Output, None]:
        """Yields the outputs of one sequence, of which the last has `finish`. Cancelled to evict the sequence."""
        ...

    async def check(self) -> None:
        """Raises if the backend does not work any more. May be called at any time."""
        ...

    async def close(self) -> None:
        """As `StepwiseBackend.close`."""
        ...


@runtime_checkable
class OffersOutputs(Protocol):
    """A streaming backend that can give outputs to its driver without a turn of the task that runs `generate`."""

    def offer_outputs(self, offer: Callable[[Output], bool]) -> None:
        """Has outputs of a sequence given to `offer` while its `generate` waits.

        `offer` never waits. It returns False, and has not taken the output, where there is no room: then `generate`
        yields the output. An output with `finish` is always yielded.
        """
        ...


Backend = StepwiseBackend | StreamingBackend


@attrs.frozen
class UpstreamState:
    """A server that a backend passes requests on to."""

    url: str
    trouble: str = ""
    """Why the upstream gets no requests; empty while it gets requests."""
    on_trial: bool = False
    """Whether the upstream gets one request at a time, because it failed before."""
    tries: Mapping[str, int] = attrs.field(factory=dict)
    """How many requests the upstream got, by outcome. These counts go on where a new incarnation begins."""
    hedges: Mapping[str, int] = attrs.field(factory=dict)
    """How many of the requests it got because another upstream was late, by outcome."""
    failovers: Mapping[str, int] = attrs.field(factory=dict)
    """How many requests went on to another upstream, by the fault."""


@runtime_checkable
class MakesSpans(Protocol):
    """A backend that makes spans of its own in the traces of requests."""

    def use_tracer(self, tracer: Tracer) -> None:
        """Has the spans given to `tracer`. Called before `start`, on a node that exports traces."""
        ...


@runtime_checkable
class HasProcess(Protocol):
    """A backend whose model runs in a process of its own, or does as if."""

    def kill(self) -> None:
        """Kills the process, as a fault of the machine would. Raises `Conflict` where no process runs."""
        ...


@runtime_checkable
class HasUpstreams(Protocol):
    """A backend that passes requests on to other servers. A node shows the state of these servers in its metrics, and
    is not ready while none of them gets requests.
    """

    def upstreams(self) -> Sequence[UpstreamState]:
        """The state of each upstream now."""
        ...
