"""The models that a gateway may accept requests for, from the records of all workers. Pure: `now` is in seconds."""

from collections.abc import Mapping, Sequence

import attrs

from llmactors.backends.base import Capabilities
from llmactors.backends.directory import ModelDirectory, ModelState, ModelStatus
from llmactors.cluster.first_look import FirstLook
from llmactors.cluster.known_models import KnownModel
from llmactors.cluster.node_record import ModelReport, NodeRecord

_NO_WORKER = "no worker runs; requests wait"
_AWAITED = "waiting for a worker"
_MAX_STEP_S = 2.0
"""The longest time between two updates that counts as time without a worker."""
_BEST_FIRST = (
    ModelState.READY,
    ModelState.STALLED,
    ModelState.LOADING,
    ModelState.STARTING,
    ModelState.UNLOADED,
    ModelState.DOWN,
    ModelState.FAILED,
)


class ClusterModels(ModelDirectory):
    """The models of all workers, each with the state of its best worker.

    A model that was served once stays known. After its last worker has left, the model is `DOWN` for `grace_s` seconds,
    and its requests wait for another worker. Then the model is `GONE`, and its requests are refused. The first model
    that was served is the default.

    A declared model is never `GONE`. Its requests wait until a worker comes: for ever where the gateway itself declares
    the model, else until no worker has declared the model for `known_s` seconds.

    Args:
        grace_s: How long requests for a model that is not declared wait for another worker, in seconds.
        known_s: How long a model counts as declared after a worker last wrote so, in seconds.
        declared: The models that this gateway declares, each with what it can probably do.
    """

    def __init__(
        self, grace_s: float, known_s: float = 0.0, declared: Mapping[str, Capabilities | None] | None = None
    ) -> None:
        super().__init__(())
        self._grace_s = grace_s
        self._known_s = known_s
        self._own = dict(declared or {})
        for name, capabilities in self._own.items():
            self.put(name, ModelStatus(ModelState.UNLOADED, capabilities, _NO_WORKER))
        self.declared = frozenset(self._own)
        """The models whose requests wait while no worker runs."""
        self._away_s = dict.fromkeys(self._own, 0.0)
        self._updated_at: float | None = None
        self.first_look = FirstLook()
        self.gateways = 1
        """The number of gateways in the cluster at the last update."""
        self.first_gateway = ""
        """The first by name of the gateways that do not drain, at the last update; empty where there was none."""
        self.records: Sequence[NodeRecord] = ()
        """The records of all nodes, as they were read last."""

    async def wait_known(self) -> None:
        """Waits for the first look at the records of the workers, but not for ever."""
        await self.first_look.wait()

    def inherit(self, served: Sequence[KnownModel]) -> None:
        """Before the first update: another gateway accepts requests for these models, and this one begins to."""
        for each in served:
            if self.get(each.name) is None and each.capabilities is not None:
                self.put(each.name, ModelStatus(ModelState.DOWN, each.capabilities, _AWAITED))
                self._away_s[each.name] = 0.0

    @property
    def served(self) -> list[KnownModel]:
        """The models for which requests are accepted."""
        return [
            KnownModel(name, status.capabilities)
            for name, status in self.items()
            if status.state is not ModelState.GONE and status.capabilities is not None
        ]

    def update(self, workers: Sequence[NodeRecord], now: float, known: Sequence[KnownModel] = ()) -> None:
        """Sets the state of each model from the records of all workers, and from the models that are known in Redis."""
        # While Redis is away there are no updates, and nothing is known of the workers: such time does not count.
        passed_s = 0.0 if self._updated_at is None else min(now - self._updated_at, _MAX_STEP_S)
        self._updated_at = now
        self.first_look.taken()
        reports: dict[str, list[ModelReport]] = {}
        for worker in sorted(workers, key=lambda record: (record.started_at, record.name)):
            for report in worker.models:
                # A draining worker takes no requests.
                if not worker.draining:
                    reports.setdefault(report.name, []).append(report)
        for name, of_model in reports.items():
            self._away_s[name] = 0.0
            self.put(name, self._best(name, of_model))
        believed = {each.name: each.capabilities for each in known if each.unseen_s < self._known_s}
        reported = {report.name for of_model in reports.values() for report in of_model if report.declared}
        self.declared = frozenset(self._own) | reported | frozenset(believed)
        for name, capabilities in believed.items():
            if self.get(name) is None:
                self.put(name, ModelStatus(ModelState.UNLOADED, capabilities, _NO_WORKER))
                self._away_s[name] = 0.0
        for name in self.names:
            if name not in reports:
                self._away_s[name] += passed_s
                self.put(name, self._without_worker(name))

    def _best(self, name: str, reports: Sequence[ModelReport]) -> ModelStatus:
        best = min(reports, key=lambda report: _BEST_FIRST.index(report.state))
        return ModelStatus(best.state, self._capabilities(name, best, reports), best.detail, best.ready_in_s)

    def _capabilities(self, name: str, best: ModelReport, reports: Sequence[ModelReport]) -> Capabilities | None:
        """The capabilities of the best worker, with the fields that all workers honour; without a worker, the last
        known ones.
        """
        known = self.get(name)
        declared = [
            each for each in (best.capabilities, *(report.capabilities for report in reports)) if each is not None
        ]
        if not declared:
            return None if known is None else known.capabilities
        # Any of the workers may get a request, so only what all of them can do is accepted.
        forms = {each.tool_format for each in declared}
        return attrs.evolve(
            declared[0],
            honours=frozenset.intersection(*(each.honours for each in declared)),
            omits=frozenset().union(*(each.omits for each in declared)),
            tool_format=forms.pop() if len(forms) == 1 else "",
        )

    def _without_worker(self, name: str) -> ModelStatus:
        known = self.get(name)
        assert known is not None  # noqa: S101 - the caller takes the name from `names`
        if name in self.declared:
            return attrs.evolve(known, state=ModelState.UNLOADED, detail=_NO_WORKER, ready_in_s=None)
        if self._away_s[name] < self._grace_s:
            return attrs.evolve(known, state=ModelState.DOWN, detail=_AWAITED)
        return attrs.evolve(known, state=ModelState.GONE, detail="no worker serves it")

    def problems(self) -> dict[str, str]:
        """The problems of the models, or none as long as requests for any model are accepted."""
        if not self.names:
            return {"workers": "no worker has joined yet"}
        can_be_asked = any(
            status.state is ModelState.READY or _waits(status) or (name in self.declared and status.capabilities)
            for name, status in self.items()
        )
        return {} if can_be_asked else super().problems()


def _waits(status: ModelStatus) -> bool:
    """Whether the model is down and its requests are still accepted."""
    return status.state is ModelState.DOWN and status.capabilities is not None
