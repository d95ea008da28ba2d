"""Which models this node serves, and how they are: written by the batchers, read by the gateway."""

import enum

import attrs

from llmactors.backends.base import Capabilities


class ModelState(enum.Enum):
    """How a model is."""

    STARTING = "starting"
    READY = "ready"
    STALLED = "stalled"
    """Its backend has not answered for a while; it will, or it will be restarted."""
    DOWN = "down"
    """Its backend crashed and is being restarted."""


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
        self._models[name] = status

    def items(self) -> list[tuple[str, ModelStatus]]:
        """All of them."""
        return list(self._models.items())
