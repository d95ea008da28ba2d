"""The models that a node serves, and the state of each: written by the batchers, read by the gateway.

In a cluster each worker has a directory of its own, and `cluster.models` makes those of the gateways from them.
"""

import enum
from collections.abc import Callable

import attrs

from llmactors.backends.base import Capabilities


class ModelState(enum.Enum):
    """The state of a model."""

    STARTING = "starting"
    READY = "ready"
    STALLED = "stalled"
    """One step of the model's backend takes suspiciously long, or no upstream of the model gets requests. The step
    ends, or the backend is restarted. The upstreams are asked again."""
    DOWN = "down"
    """The model's backend crashed and is restarted, or the model's last worker left a moment ago."""
    GONE = "gone"
    """No worker has served the model for a while. Only a gateway of a cluster has this state."""
    UNLOADED = "unloaded"
    """The model is not in memory, and a worker loads the model when requests wait for it."""
    LOADING = "loading"
    """A worker loads the model, because requests wait for the model."""
    FAILED = "failed"
    """The last load of the model failed. Another one is tried later, if requests wait for the model."""


NOT_IN_MEMORY = frozenset({ModelState.UNLOADED, ModelState.LOADING, ModelState.FAILED})
"""States that only models have which are loaded on demand. They are no problem of the node, because requests can be
sent all the same, and other models do not suffer."""


@attrs.frozen
class ModelStatus:
    """The status of one model."""

    state: ModelState = ModelState.STARTING
    capabilities: Capabilities | None = None
    """What the backend declared last, also while it is down. None before its first start."""
    detail: str = ""
    ready_in_s: float | None = None
    """An estimate of how long a model that is not in memory takes to load, or has left to load, in seconds. None: the
    model is in memory, or nothing is known."""


class ModelDirectory:
    """One `ModelStatus` per model. Each change puts a new status in place of the old one."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._models = dict.fromkeys(names, ModelStatus())
        self.running = dict.fromkeys(names, 0)
        """How many requests each model's backend holds on this node."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after the state of a model has changed. Must not raise."""

    def __repr__(self) -> str:
        return f"<ModelDirectory { ({name: status.state.value for name, status in self._models.items()}) }>"

    async def wait_known(self) -> None:
        """Waits until the states are known, but not for ever. Those of the node's own models always are."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all models. The first is the default of requests that name none."""
        return tuple(self._models)

    def get(self, name: str) -> ModelStatus | None:
        """The status of a model; None for a model that this node does not serve."""
        return self._models.get(name)

    def load_s(self, name: str) -> float | None:
        """How long a model that is not in memory will probably take to load, in seconds; None for any other model."""
        status = self._models.get(name)
        return None if status is None else status.ready_in_s

    def put(self, name: str, status: ModelStatus) -> bool:
        """Sets the status of the model `name`. Returns whether the state has changed."""
        before, self._models[name] = self._models.get(name), status
        changed = before is None or before.state is not status.state
        if changed:
            self.on_change()
        return changed

    def items(self) -> list[tuple[str, ModelStatus]]:
        """All models with their statuses."""
        return list(self._models.items())

    def problems(self) -> dict[str, str]:
        """The models that cannot be asked, each with the reason, as in `model:NAME`. Empty where there are none."""
        found = {f"model:{name}": self.problem_of(name) for name in self._models}
        return {name: problem for name, problem in found.items() if problem}

    def problem_of(self, name: str) -> str:
        """Why the model cannot be asked; an empty text where it can be asked."""
        status = self._models.get(name)
        if status is None:
            return "no such model is served"
        is_fine = status.state is ModelState.READY or status.state in NOT_IN_MEMORY
        return "" if is_fine else f"{status.state.value} {status.detail}".strip()
