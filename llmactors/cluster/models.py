"""From all workers' records to what a gateway may accept. Pure: `now` is an argument, in seconds."""

from collections.abc import Sequence

import attrs

from llmactors.backends.base import Capabilities
from llmactors.backends.directory import ModelDirectory, ModelState, ModelStatus
from llmactors.cluster.node_record import ModelReport, NodeRecord

_LOOK_COUNTS_S = 2.0
"""The longest time that a look can stand for."""
_BEST_FIRST = (ModelState.READY, ModelState.STALLED, ModelState.STARTING, ModelState.DOWN)


class ClusterModels(ModelDirectory):
    """The models of all workers: each as well as its best worker has it.

    A model that was seen once stays known. For `grace_s` after its last worker left it is `DOWN`, and its requests wait
    for another worker; after that it is `GONE`, and they are refused. The first one seen is the default.
    """

    def __init__(self, grace_s: float) -> None:
        super().__init__(())
        self._grace_s = grace_s
        self._away_s: dict[str, float] = {}
        self._updated_at: float | None = None
        self.gateways = 1
        """How many gateways serve them, at the last look."""

    def update(self, workers: Sequence[NodeRecord], now: float) -> None:
        """Takes in the records of all workers that there are."""
        # Time in which nobody could look, as while Redis is away, says nothing about the workers.
        passed_s = 0.0 if self._updated_at is None else min(now - self._updated_at, _LOOK_COUNTS_S)
        self._updated_at = now
        reports: dict[str, list[ModelReport]] = {}
        for worker in sorted(workers, key=lambda record: (record.started_at, record.name)):
            for report in worker.models:
                # One that drains takes no requests any more, and is as good as gone.
                if not worker.draining:
                    reports.setdefault(report.name, []).append(report)
        for name, of_model in reports.items():
            self._away_s[name] = 0.0
            self.put(name, self._best(name, of_model))
        for name in self.names:
            if name not in reports:
                self._away_s[name] += passed_s
                self.put(name, self._without_worker(name))

    def _best(self, name: str, reports: Sequence[ModelReport]) -> ModelStatus:
        best = min(reports, key=lambda report: _BEST_FIRST.index(report.state))
        return ModelStatus(best.state, self._capabilities(name, best, reports), best.detail)

    def _capabilities(self, name: str, best: ModelReport, reports: Sequence[ModelReport]) -> Capabilities | None:
        """The best worker's, of what all honour; while none is ready, what was known last."""
        known = self.get(name)
        declared = [
            each for each in (best.capabilities, *(report.capabilities for report in reports)) if each is not None
        ]
        if not declared:
            return None if known is None else known.capabilities
        # Any of the workers may get a request: it must be one that all of them honour.
        return attrs.evolve(declared[0], honours=frozenset.intersection(*(each.honours for each in declared)))

    def _without_worker(self, name: str) -> ModelStatus:
        known = self.get(name)
        assert known is not None  # noqa: S101 - it is one of the names
        if self._away_s[name] < self._grace_s:
            return attrs.evolve(known, state=ModelState.DOWN, detail="waiting for a worker")
        return attrs.evolve(known, state=ModelState.GONE, detail="no worker serves it")

    def problems(self) -> dict[str, str]:
        """A model without a worker keeps nobody from being ready, as long as there is any that can be asked for."""
        if not self.names:
            return {"workers": "no worker has joined yet"}
        can_be_asked = any(status.state is ModelState.READY or _waits(status) for _, status in self.items())
        return {} if can_be_asked else super().problems()


def _waits(status: ModelStatus) -> bool:
    """Whether requests are accepted for it although it is down."""
    return status.state is ModelState.DOWN and status.capabilities is not None
