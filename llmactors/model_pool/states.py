"""What the directory says of a model that is loaded on demand and is not in memory. Pure.

Of a model in memory, the model's batcher says whether it is ready or stalled.
"""

import attrs

from llmactors.backends.directory import ModelState, ModelStatus
from llmactors.backends.residency import Residency, ResidencyPhase

TRIES = 3
"""After so many failed loads in a row, each further failure ends the requests that wait for the model."""
_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 60.0
DEFAULT_BYTES_PER_S = 500e6
"""How fast models are assumed to load before one was loaded: a good disk."""


def retry_at(residency: Residency) -> float:
    """When the next load of a model may begin, on the clock of `residency`."""
    if not residency.failures:
        return 0.0
    return residency.failed_at + min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(residency.failures - 1, 10))


def load_estimate_s(residency: Residency, need_bytes: int, bytes_per_s: float) -> float:
    """How long a load takes: as long as the last one of this model, or as long as the others' loads by their size."""
    return residency.load_s if residency.load_s is not None else need_bytes / bytes_per_s


def shown_status(known: ModelStatus, residency: Residency, load_s: float, now: float) -> ModelStatus:
    """The status of a model that is not in memory; `known` for another. `load_s` is an estimate for a whole load."""
    if residency.phase is ResidencyPhase.LOADING:
        left_s = max(0.0, load_s - (now - residency.since))
        detail = residency.detail or f"about {left_s:.0f} s left"
        return attrs.evolve(known, state=ModelState.LOADING, detail=detail, ready_in_s=round(left_s, 1))
    if residency.phase is not ResidencyPhase.UNLOADED:
        return attrs.evolve(known, ready_in_s=None)
    if residency.error:
        next_s = max(0.0, retry_at(residency) - now)
        detail = f"{residency.error} (load {residency.failures}; the next one at the earliest in {next_s:.0f} s)"
        return attrs.evolve(known, state=ModelState.FAILED, detail=detail, ready_in_s=round(next_s + load_s, 1))
    state = ModelState.LOADING if residency.detail else ModelState.UNLOADED
    return attrs.evolve(known, state=state, detail=residency.detail, ready_in_s=round(load_s, 1))
