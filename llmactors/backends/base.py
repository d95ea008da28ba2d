"""What a backend is: the Protocol that the mock, llama.cpp, remote APIs and users' own backends hold.

Two kinds, by who owns the batching:

- **stepwise**: the backend decodes all its sequences one step at a time. `admit`, then `step` again and again: each
  step returns what every sequence produced. `evict` drops one. The runtime calls these, one at a time.
- **streaming**: the backend batches by itself (a server with its own scheduler) and `generate` yields the outputs of
  one sequence. The runtime runs one `generate` per admitted sequence, and cancels it to evict.

A backend lives inside a backend actor: whatever it raises besides `errors.LlmactorsError` (from `admit` or
`generate`: that request alone is at fault) ends the actor's incarnation, and a new backend is made.
"""

import enum
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, runtime_checkable

import attrs
import msgspec

from llmactors.errors import InvalidRequest
from llmactors.messages import FinishReason, GenerateRequest, TokenDelta


class Takeover(enum.Enum):
    """What happens to a sequence that another backend began."""

    EXACT = "exact"
    """Continuing from the logged tokens gives the very same text as an undisturbed run."""
    CONTINUE = "continue"
    """It continues from the logged tokens; the rest is a valid continuation."""
    RESTART = "restart"
    """It can only begin anew: safe before the first token, else the stream ends with `INTERRUPTED`."""


class Batching(enum.Enum):
    """When a sequence may join."""

    CONTINUOUS = "continuous"
    """As soon as a slot is free."""
    STATIC = "static"
    """Only together with others of the same `max_tokens`, while the backend is empty: a batch runs to its end."""


@attrs.frozen
class Capabilities:
    """What a backend declares once it is ready."""

    slots: int
    """How many sequences it takes at once."""
    context_tokens: int
    """Prompt and answer together must fit in this."""
    takeover: Takeover
    batching: Batching = Batching.CONTINUOUS
    honours: frozenset[str] = frozenset()
    """Which of `messages.OPTIONAL_FIELDS` it honours. Requests with others never come to it. Names, not an enum: nodes
    of another version may know more of them."""

    def refusal(self, request: GenerateRequest) -> InvalidRequest | None:
        """Why such a backend must not get this request; None where it may."""
        lacking = sorted(request.demands - self.honours)
        if not lacking:
            return None
        if "prompt_ids" in lacking:
            return InvalidRequest("`prompt`: this model takes no token ids; send the text")
        return InvalidRequest(f"`{lacking[0]}` is not served by this model; leave it out")


@attrs.frozen
class Job:
    """One request in a backend."""

    key: tuple[str, int]
    """(request id, epoch): unique for ever."""
    request: GenerateRequest
    tokens: tuple[TokenDelta, ...] = ()
    """What the log holds already. The backend produces what comes after it."""


class Output(msgspec.Struct, frozen=True, gc=False):
    """What one sequence produced in one step: new tokens, and the reason where these are the last."""

    key: tuple[str, int]
    deltas: Sequence[TokenDelta] = ()
    finish: FinishReason | None = None
    prompt_tokens: int = 0
    """Set together with `finish`; 0 where it is not known."""


@runtime_checkable
class StepwiseBackend(Protocol):
    """See the module's text. `step` is called only while there are sequences."""

    capabilities: Capabilities

    async def start(self) -> None:
        """Returns when requests can be served. Raises `errors.ModelError` where that can never work."""
        ...

    async def admit(self, job: Job) -> None: ...

    async def step(self) -> list[Output]:
        """One decode step. A sequence whose output has `finish` has left."""
        ...

    def evict(self, key: tuple[str, int]) -> None:
        """Drops a sequence, if it is there."""
        ...

    async def check(self) -> None:
        """Raises unless the backend still works. Called between steps, and while idle."""
        ...

    async def close(self) -> None:
        """Frees everything. Called once, also after a failed `start`."""
        ...


@runtime_checkable
class StreamingBackend(Protocol):
    """See the module's text."""

    capabilities: Capabilities

    async def start(self) -> None: ...

    def generate(self, job: Job) -> AsyncGenerator[Output, None]:
        """Yields the sequence's outputs; the last one has `finish`. Cancelled to evict."""
        ...

    async def check(self) -> None: ...

    async def close(self) -> None: ...


Backend = StepwiseBackend | StreamingBackend
