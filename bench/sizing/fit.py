"""The costs of the steps, from measured runs. Pure."""

from collections.abc import Sequence
from typing import Final

import attrs
import numpy as np

from bench.sizing.model import PARTS, Cluster, Costs, Events, Load, Part, StepCosts, events

COUNTED: Final[dict[Part, tuple[str, ...]]] = {
    "gateway": ("processes", "pushes", "tokens", "requests"),
    "worker": ("processes", "appends", "tokens", "requests"),
    "redis": ("processes", "appends", "pushes", "tokens", "requests"),
}
"""The events that cost a part something."""


@attrs.frozen
class Run:
    """One measured run."""

    cluster: Cluster
    load: Load | None
    """None: nothing was asked of the cluster."""
    seconds: float
    cpu_s: dict[Part, float]
    """What each part has spent."""

    def events(self, part: Part) -> Events:
        """What happened in the run."""
        load = self.load or Load(0, 0.0, 1.0)
        return events(self.cluster, load, part).times(self.seconds)


def fitted(runs: Sequence[Run]) -> StepCosts:
    """The costs with which the model is nearest to the runs: the squares of the relative errors are least.

    No cost is below zero: where the best one would be, the cost is zero.
    """
    return {part: _costs_of(part, runs) for part in PARTS}


def _costs_of(part: Part, runs: Sequence[Run]) -> Costs:
    names = list(COUNTED[part])
    while True:
        rows = [[getattr(run.events(part), name) for name in names] for run in runs]
        measured = np.array([1e6 * run.cpu_s[part] for run in runs])
        weighted = np.array(rows) / measured[:, None]
        found, *_ = np.linalg.lstsq(weighted, np.ones(len(runs)), rcond=None)
        worst = int(np.argmin(found))
        if found[worst] >= 0:
            known = dict(zip(names, map(float, found), strict=True))
            return Costs(**{field.name: known.get(field.name, 0.0) for field in attrs.fields(Costs)})
        del names[worst]
