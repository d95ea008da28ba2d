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
    """One step of the model's backend takes suspiciously long. The step ends, or the backend is restarted."""
    DOWN = "down"
    """The model's backend crashed and is restarted, or the model's last worker left a moment ago."""
    GONE = "gone"
    """No worker has served the model for a while. Only a gateway of a cluster has this state."""


@attrs.frozen
class ModelStatus:
    """The status of one model."""

    state: ModelState = ModelState.STARTING
    capabilities: Capabilities | None = None
    """What the backend declared last, also while it is down. None before its first start."""
    detail: str = ""


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

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all models. The first is the default of requests that name none."""
        return tuple(self._models)

    def get(self, name: str) -> ModelStatus | None:
        """The status of a model; None for a model that this node does not serve."""
        return self._models.get(name)

    def put(self, name: str, status: ModelStatus) -> None:
        """Sets the status of the model `name`."""
        before, self._models[name] = self._models.get(name), status
        if before is None or before.state is not status.state:
            self.on_change()

    def items(self) -> list[tuple[str, ModelStatus]]:
        """All models with their statuses."""
        return list(self._models.items())

    def problems(self) -> dict[str, str]:
        """The models that are not ready, each with the reason, as in `model:NAME`. Empty where all are ready."""
        return {
            f"model:{name}": f"{status.state.value} {status.detail}".strip()
            for name, status in self._models.items()
            if status.state is not ModelState.READY
        }
