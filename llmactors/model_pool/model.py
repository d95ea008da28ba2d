"""What is known of the models of a pool, and the rules by which they share its memory. Pure: times are in seconds."""

import math

import attrs

from llmactors.backends.residency import ResidencyPhase


@attrs.frozen(kw_only=True)
class PoolModel:
    """What a model needs, as it was declared."""

    name: str
    need_bytes: int
    """The memory that the model takes while it is loaded, and while it is being loaded or unloaded."""
    group: str = ""
    """At most one model of a group is in memory at a time. Empty: the model is in no group."""
    idle_s: float = math.inf
    """The model is unloaded after so long without a request."""


@attrs.frozen(kw_only=True)
class PoolRules:
    """How models take turns."""

    memory_bytes: int
    """The memory of all models of the pool together."""
    min_turn_s: float = 5.0
    """A model that was loaded and has work stays in memory at least for this long."""
    load_share: float = 4.0
    """The turn of a model lasts at least for this many times its last load, so that loads take a bounded share of the
    time."""
    patience_s: float = 30.0
    """A request that waits longer ends the turns of models that still have work."""


@attrs.frozen(kw_only=True)
class ModelView:
    """What is known of one model at one moment."""

    phase: ResidencyPhase = ResidencyPhase.UNLOADED
    wanted: bool = False
    """Whether the pool has decided that the model is to be in memory."""
    since: float = 0.0
    """When the phase began."""
    load_s: float = 0.0
    """How long the last load took."""
    used_at: float = 0.0
    """When the model last had work, or was loaded."""
    running: int = 0
    waiting: int = 0
    missed_s: float = 0.0
    """How long the first waiting request has waited since the model left the memory, weighted by its priority class.

    The time before counts no more: a model that had to leave would come back at once otherwise."""
    retry_at: float = 0.0
    """Before this time the model is not loaded, because loads have failed."""
    elsewhere: bool = False
    """Whether another worker has the model in memory or loads it."""

    @property
    def is_resident(self) -> bool:
        """Whether the model takes memory now, or soon will."""
        return self.wanted or self.phase is not ResidencyPhase.UNLOADED

    @property
    def is_idle(self) -> bool:
        """Whether the model has no work."""
        return not self.running and not self.waiting
