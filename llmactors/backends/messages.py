"""What a batcher and a backend actor say to each other. Frozen; keys are (request id, epoch), unique for ever."""

import attrs

from llmactors.backends.base import Capabilities, Job, Output
from llmactors.errors import LlmactorsError

Key = tuple[str, int]


@attrs.frozen
class Hello:
    """A batcher (re)started: drop all jobs, and answer with `BackendReady`."""


@attrs.frozen
class Assign:
    """Take these jobs, drop those."""

    admit: tuple[Job, ...] = ()
    evict: tuple[Key, ...] = ()


@attrs.frozen
class BackendReady:
    """The backend takes jobs; it holds none that this batcher did not assign after its `Hello`."""

    incarnation: int
    capabilities: Capabilities


@attrs.frozen
class BackendStalled:
    """One step has taken suspiciously long. Either `BackendReady` follows, or the backend's death."""

    incarnation: int
    seconds: float


@attrs.frozen
class BackendEnding:
    """This incarnation takes no jobs any more. Its death follows, and says why; it may also overtake this message."""

    incarnation: int
    begun: frozenset[Key]
    """The jobs that it has touched. The others did nothing to it."""


@attrs.frozen
class Produced:
    """What came out since the last one."""

    outputs: tuple[Output, ...] = ()
    failed: tuple[tuple[Key, LlmactorsError], ...] = ()
    """Jobs that ended by an error of their own; the backend is well."""
