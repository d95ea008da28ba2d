"""Whether a model that is loaded on demand is in memory, and whether the model is to be there.

The wiring makes one `Residency` for each such model, and hands the object to the model's backend actor, to the model's
batcher and to the model pool. So what one of them knows survives the crash of another.
"""

import enum
from collections.abc import Callable

import trio


class ResidencyPhase(enum.Enum):
    """What a model's backend actor does with the model."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    LOADED = "loaded"
    UNLOADING = "unloading"


class Residency:
    """The residency of one model. Times are on Trio's clock, in seconds.

    The model pool alone decides what is wanted, and a crash of the backend takes the decision back.

    Args:
        model: The name of the model.
        always: Whether the model is never unloaded. Then no model pool knows of it.
    """

    def __init__(self, model: str, *, always: bool = False) -> None:
        self.model = model
        self.always = always
        self.wanted = always
        """Whether the model is to be in memory. While False, the batcher claims nothing for the model."""
        self.phase = ResidencyPhase.LOADED if always else ResidencyPhase.UNLOADED
        self.since = 0.0
        """When the phase began."""
        self.loads = 0
        """How often the model was loaded."""
        self.load_s: float | None = None
        """How long the last load took; None before the first."""
        self.failures = 0
        """How many loads have failed since the last one that succeeded."""
        self.failed_loads = 0
        """How many loads have failed in all."""
        self.error = ""
        """Why the last load failed."""
        self.failed_at = 0.0
        self.detail = ""
        """The progress of a download, as in `downloading 12 of 105 MB`."""
        self.on_change: Callable[[], None] = lambda: None
        """For the model pool: called when there may be something to decide. Must not raise."""
        self.on_wanted: Callable[[], None] = lambda: None
        """For the batcher: called after `wanted` has changed, and now and then while False. Must not raise."""
        self._running = 0

    def __repr__(self) -> str:
        return f"<Residency of {self.model}: {self.phase.value}{' wanted' * self.wanted} failures={self.failures}>"

    def want(self, *, wanted: bool) -> None:
        """Decides whether the model is to be in memory."""
        self.wanted = wanted
        self.on_wanted()

    def note_demand(self) -> None:
        """Notes that there may be new requests for the model."""
        if self.phase is ResidencyPhase.UNLOADED:
            self.on_change()

    def note_running(self, running: int) -> None:
        """Notes how many requests the batcher holds. A model without any may make room for another."""
        before, self._running = self._running, running
        if before and not running:
            self.on_change()

    def load_begins(self) -> None:
        """Notes that the backend actor begins to load the model."""
        self._enter(ResidencyPhase.LOADING)

    def load_ended(self) -> None:
        """Notes that the model is in memory."""
        self.load_s = trio.current_time() - self.since
        self.loads += 1
        self.failures, self.error, self.detail = 0, "", ""
        self._enter(ResidencyPhase.LOADED)

    def load_failed(self, reason: str) -> None:
        """Notes why a load has failed. `gone` follows."""
        self.failures += 1
        self.failed_loads += 1
        self.error, self.failed_at, self.detail = reason, trio.current_time(), ""

    def unload_begins(self) -> None:
        """Notes that the backend actor begins to unload the model."""
        self._enter(ResidencyPhase.UNLOADING)

    def gone(self) -> None:
        """Notes that the model is in memory no more: after an unload, a failed load or a crash."""
        self.wanted = False
        self._enter(ResidencyPhase.UNLOADED)

    def _enter(self, phase: ResidencyPhase) -> None:
        self.phase, self.since = phase, trio.current_time()
        self.on_change()
