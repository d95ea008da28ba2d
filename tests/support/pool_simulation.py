"""A worker's models in simulated time: requests come, the plan decides, and loads and answers take their time.

The simulation checks at every step what no plan may break: the memory, the groups, and that no model leaves while it
runs a request.
"""

import math
from collections.abc import Mapping, Sequence

import attrs

from llmactors.backends.residency import ResidencyPhase
from llmactors.model_pool.model import ModelView, PoolModel, PoolRules
from llmactors.model_pool.plan import plan_changes

STEP_S = 0.25


@attrs.frozen
class Arrival:
    """One request: when it comes, for which model, and how long its answer takes."""

    at: float
    model: str
    answer_s: float


@attrs.define
class SimulatedModel:
    """One model of the simulation."""

    model: PoolModel
    load_s: float
    slots: int
    phase: ResidencyPhase = ResidencyPhase.UNLOADED
    wanted: bool = False
    since: float = -math.inf
    used_at: float = 0.0
    missed_since: float | None = None
    """Since when the model is waited for and not in memory."""
    loads: int = 0
    waiting: list[Arrival] = attrs.field(factory=list)
    running: list[float] = attrs.field(factory=list)
    """When each running answer ends."""

    def enter(self, phase: ResidencyPhase, now: float) -> None:
        """Begins a phase."""
        self.phase, self.since = phase, now

    def view(self, now: float) -> ModelView:
        """What the plan sees of the model."""
        if self.waiting or self.running:
            self.used_at = now
        return ModelView(
            phase=self.phase,
            wanted=self.wanted,
            since=self.since,
            load_s=self.load_s if self.loads else 0.0,
            used_at=max(self.used_at, self.since),
            running=len(self.running),
            waiting=len(self.waiting),
            missed_s=now - max(self.waiting[0].at, self.since) if self.waiting else 0.0,
        )


class PoolSimulation:
    """Runs all arrivals to their end."""

    def __init__(self, models: Sequence[SimulatedModel], rules: PoolRules, arrivals: Sequence[Arrival]) -> None:
        self.models = {each.model.name: each for each in models}
        self._declared: Mapping[str, PoolModel] = {each.model.name: each.model for each in models}
        self._rules = rules
        self._arrivals = sorted(arrivals, key=lambda each: each.at)
        self._now = 0.0
        self.longest_wait_s = 0.0
        """How long a request waited for its answer at most."""
        self.longest_absence_s = 0.0
        """How long a model that was waited for was not in memory at most."""
        self.served = 0

    @property
    def loads(self) -> int:
        """How many loads there were."""
        return sum(each.loads for each in self.models.values())

    def run(self, *, until_s: float) -> None:
        """Returns when everything is served. Fails when that takes longer than `until_s`."""
        while self._arrivals or any(each.waiting or each.running for each in self.models.values()):
            assert self._now < until_s, f"{self.served} requests were served, and others wait: {self.models}"
            self._arrive()
            self._plan()
            for each in self.models.values():
                self._step(each)
            self._check()
            self._now += STEP_S

    def _arrive(self) -> None:
        while self._arrivals and self._arrivals[0].at <= self._now:
            arrival = self._arrivals.pop(0)
            self.models[arrival.model].waiting.append(arrival)

    def _plan(self) -> None:
        views = {name: each.view(self._now) for name, each in self.models.items()}
        plan = plan_changes(self._declared, views, self._rules, self._now)
        for name in plan.load:
            assert not views[name].is_resident
            assert views[name].waiting
            self.models[name].wanted = True
        for name in plan.unload:
            assert views[name].wanted
            assert views[name].phase is ResidencyPhase.LOADED
            self.models[name].wanted = False
        for name in plan.keep:
            assert views[name].phase is ResidencyPhase.LOADED
            self.models[name].wanted = True

    def _step(self, each: SimulatedModel) -> None:
        now = self._now
        each.running = [ends for ends in each.running if ends > now]
        match each.phase:
            case ResidencyPhase.UNLOADED if each.wanted:
                each.loads += 1
                each.enter(ResidencyPhase.LOADING, now)
            case ResidencyPhase.LOADING if now - each.since >= each.load_s:
                each.enter(ResidencyPhase.LOADED, now)
            case ResidencyPhase.LOADED if not each.wanted and not each.running:
                each.enter(ResidencyPhase.UNLOADING, now)
            case ResidencyPhase.UNLOADING:
                each.enter(ResidencyPhase.UNLOADED, now)
        if each.phase is ResidencyPhase.LOADED and each.wanted:
            while each.waiting and len(each.running) < each.slots:
                arrival = each.waiting.pop(0)
                self.longest_wait_s = max(self.longest_wait_s, now - arrival.at)
                self.served += 1
                each.running.append(now + arrival.answer_s)

    def _check(self) -> None:
        for each in self.models.values():
            if not each.waiting or (each.phase is ResidencyPhase.LOADED and each.wanted):
                each.missed_since = None
            elif each.missed_since is None:
                each.missed_since = self._now
            else:
                self.longest_absence_s = max(self.longest_absence_s, self._now - each.missed_since)
        resident = [each.model for each in self.models.values() if each.phase is not ResidencyPhase.UNLOADED]
        assert sum(model.need_bytes for model in resident) <= self._rules.memory_bytes
        groups = [model.group for model in resident if model.group]
        assert len(groups) == len(set(groups))
