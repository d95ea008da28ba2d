"""Which models this node serves, and how they are: written by the batchers, read by the gateway.

In a cluster each worker has one of its own, and `nodes.models` makes the gateways' out of them.
"""

import enum
from collections.abc import Callable

import attrs

from llmactors.backends.base import Capabilities


class ModelState(enum.Enum):
    """How a model is."""

    STARTING = "starting"
    READY = "ready"
    STALLED = "stalled"
    """Its backend has not answered for a while; it will, or it will be restarted."""
    DOWN = "down"
    """Its backend crashed and is being restarted, or its last worker left a moment ago."""
    GONE = "gone"
    """No worker has served it for a while. Only a gateway of a cluster sees this."""


@attrs.frozen
class ModelStatus:
    """One model."""

    state: ModelState = ModelState.STARTING
    capabilities: Capabilities | None = None
    """As last declared; kept while the backend is down. None before its first start."""
    detail: str = ""


class ModelDirectory:
    """A snapshot per model; replaced whole at every change."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._models = dict.fromkeys(names, ModelStatus())
        self.running = dict.fromkeys(names, 0)
        """How many requests each model has in hand here."""
        self.on_change: Callable[[], None] = lambda: None
        """Is called after a model has come into another state; must not raise."""

    def __repr__(self) -> str:
        return f"<ModelDirectory { ({name: status.state.value for name, status in self._models.items()}) }>"

    @property
    def names(self) -> tuple[str, ...]:
        """All models, the default one first."""
        return tuple(self._models)

    def get(self, name: str) -> ModelStatus | None:
        """None for a model that is not served here."""
        return self._models.get(name)

    def put(self, name: str, status: ModelStatus) -> None:
        """Replaces what is known of `name`."""
        before, self._models[name] = self._models.get(name), status
        if before is None or before.state is not status.state:
            self.on_change()

    def items(self) -> list[tuple[str, ModelStatus]]:
        """All of them."""
        return list(self._models.items())

    def problems(self) -> dict[str, str]:
        """What keeps requests from being taken, by component; empty when nothing does."""
        return {
            f"model:{name}": f"{status.state.value} {status.detail}".strip()
            for name, status in self._models.items()
            if status.state is not ModelState.READY
        }
