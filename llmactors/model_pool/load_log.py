"""Logs and counts the loads of a pool: their progress and their ends."""

import structlog

from llmactors.backends.residency import ResidencyPhase
from llmactors.model_pool.member import PoolMember
from llmactors.telemetry import Metrics

log = structlog.get_logger("llmactors.models")

_LINE_EVERY_S = 10.0


class LoadLog:
    """What was logged so far. The object outlives the incarnations of the pool's actor."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._loads: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self._line_at: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<LoadLog loads={self._loads} failures={self._failures}>"

    def look(self, member: PoolMember, load_s: float, now: float) -> None:
        """Logs what is new of one model. `load_s` is the estimate of a whole load, in seconds."""
        residency, name = member.residency, member.name
        if residency.loads > self._loads.get(name, 0):
            self._loads[name] = residency.loads
            self._metrics.model_load("loaded")
            log.info("a model was loaded", model=name, seconds=round(residency.load_s or 0.0, 1))
        if residency.failed_loads > self._failures.get(name, 0):
            self._failures[name] = residency.failed_loads
            self._metrics.model_load("failed")
            log.warning("the load of a model failed", model=name, in_a_row=residency.failures, reason=residency.error)
        if residency.phase is not ResidencyPhase.LOADING:
            self._line_at.pop(name, None)
        elif now >= self._line_at.setdefault(name, now + _LINE_EVERY_S):
            self._line_at[name] = now + _LINE_EVERY_S
            gone_s = now - residency.since
            log.info("a model is being loaded", model=name, seconds=round(gone_s), expected_s=round(load_s))
