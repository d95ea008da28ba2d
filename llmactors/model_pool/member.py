"""One model of a pool, and how the pool reaches the model's actors."""

import math
from collections.abc import Awaitable, Callable

import attrs

from llmactors.actors import ActorRef
from llmactors.backends.messages import BackendMessage
from llmactors.backends.residency import Residency, ResidencyPhase
from llmactors.model_pool.model import PoolModel


@attrs.define(eq=False)
class PoolMember:
    """One model of the pool. The object outlives the incarnations of the pool's actor."""

    name: str
    residency: Residency
    backend: ActorRef[BackendMessage]
    measure: Callable[[], int | None]
    """Returns how many bytes of memory the model needs; None while the model's file is not there. Blocks for
    milliseconds."""
    need_bytes: int | None = None
    """What `measure` has returned last."""
    fetch: Callable[[], Awaitable[object]] | None = None
    """Downloads the model's file. None: the model has none, or the file is the user's own."""
    group: str = ""
    idle_s: float = math.inf
    used_at: float = 0.0
    """When the model last had work."""
    is_fetching: bool = False
    ended_for: float = -1.0
    """The time of the failed load for which the waiting requests were ended last."""

    @property
    def rests(self) -> bool:
        """Whether the model is neither in memory nor on its way there, and no failed load of it is to be shown."""
        residency = self.residency
        is_out = residency.phase is ResidencyPhase.UNLOADED and not residency.wanted
        return is_out and not residency.error and not self.is_fetching

    @property
    def model(self) -> PoolModel | None:
        """What the plan knows of the model; None while nobody knows how much memory the model needs."""
        if self.need_bytes is None:
            return None
        return PoolModel(name=self.name, need_bytes=self.need_bytes, group=self.group, idle_s=self.idle_s)
