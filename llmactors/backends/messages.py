"""The messages between a batcher and a backend actor, and the model pool's to a backend actor."""

import attrs

from llmactors.backends.base import Capabilities, Job, Output
from llmactors.errors import LlmactorsError

Key = tuple[str, int]
"""A request's id and the epoch of its claim: no other job has the same key."""


@attrs.frozen
class Hello:
    """From a batcher that has started: drop all jobs, and answer with `BackendReady`."""


@attrs.frozen
class Assign:
    """From the batcher: take the jobs of `admit`, and drop those of `evict`."""

    admit: tuple[Job, ...] = ()
    evict: tuple[Key, ...] = ()
    unload: bool = False
    """Whether a model that is loaded on demand is to leave the memory. The batcher holds no job then."""


@attrs.frozen
class BackendReady:
    """The backend takes jobs. The backend holds only jobs that the batcher assigned after its `Hello`."""

    incarnation: int
    capabilities: Capabilities


@attrs.frozen
class BackendStalled:
    """One step takes suspiciously long, or no upstream gets requests. `BackendReady` follows, or the backend's end."""

    incarnation: int
    reason: str


@attrs.frozen
class BackendEnding:
    """This incarnation takes no jobs any more. A `Down` with the cause follows, or has come before this message."""

    incarnation: int
    begun: frozenset[Key]
    """The jobs that the backend has begun. No other job can have caused its end."""


@attrs.frozen
class Load:
    """From the model pool to the backend actor of a model that is loaded on demand: load the model."""


@attrs.frozen
class Produced:
    """What the backend has produced since the last message of this kind."""

    outputs: tuple[Output, ...] = ()
    failed: tuple[tuple[Key, LlmactorsError], ...] = ()
    """Jobs that ended by an error of their own, while the backend works on."""


BackendMessage = Hello | Assign | Load
"""All messages that a backend actor takes."""

BatcherNews = Produced | BackendReady | BackendStalled | BackendEnding
"""All messages of a backend actor to its batcher."""
