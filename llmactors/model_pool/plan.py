"""The decision which models of a worker are loaded, and which are unloaded to make room. Pure.

A model serves its queue to the end, and then gives its memory to the model whose requests have waited for longest. Of
the models without work, the one that has been idle for longest is unloaded first. This order needs the fewest loads.
Two bounds keep the order fair: a request that has waited for `patience_s` ends the turns of models that still have
work, and no turn ends before `min_turn_s`. So a model waits at most for `patience_s`, and for one turn, one longest
answer and one load of each model that has waited longer.
"""

from collections.abc import Mapping, Sequence

import attrs

from llmactors.backends.residency import ResidencyPhase
from llmactors.model_pool.model import ModelView, PoolModel, PoolRules


@attrs.frozen
class PoolPlan:
    """What is to change."""

    load: tuple[str, ...] = ()
    """Models to be loaded now: there is room for all of them."""
    unload: tuple[str, ...] = ()
    """Models to be unloaded as soon as they run nothing. They claim no more requests."""
    keep: tuple[str, ...] = ()
    """Models whose unloading was planned and has not begun, and which now stay."""
    room_for: tuple[str, ...] = ()
    """Models for which others are to be unloaded. They are loaded by a later plan."""


def plan_changes(
    models: Mapping[str, PoolModel], views: Mapping[str, ModelView], rules: PoolRules, now: float
) -> PoolPlan:
    """What to load and to unload now. `views` has a view of each model of `models`."""
    return _Planner(models, views, rules, now).plan()


class _Planner:
    def __init__(
        self, models: Mapping[str, PoolModel], views: Mapping[str, ModelView], rules: PoolRules, now: float
    ) -> None:
        self._models = models
        self._views = views
        self._rules = rules
        self._now = now
        self._staying = {name for name, view in views.items() if view.wanted}
        self._leaving = {name for name, view in views.items() if view.is_resident and not view.wanted}
        self._free = rules.memory_bytes - self._need(self._staying | self._leaving)
        self._promised = 0
        """The memory that is kept for models which are loaded when others have been unloaded."""
        self._load: list[str] = []
        self._unload: list[str] = []
        self._room_for: list[str] = []

    def plan(self) -> PoolPlan:
        for name in sorted(self._staying):
            if self._idle_for_too_long(name):
                self._leave([name])
        waiting = self._waiting()
        for name in waiting:
            self._serve(name)
        return PoolPlan(tuple(self._load), tuple(self._unload), () if waiting else self._kept(), tuple(self._room_for))

    def _waiting(self) -> list[str]:
        """The models that requests wait for and that are not in memory, the first to be served first.

        A model that another worker serves already comes behind all others.
        """
        found = [
            name
            for name, view in self._views.items()
            if view.waiting and not view.is_resident and view.retry_at <= self._now
        ]
        return sorted(found, key=lambda name: (self._views[name].elsewhere, -self._views[name].missed_s, name))

    def _serve(self, name: str) -> None:
        """Loads a model, or makes room for it, or leaves it waiting."""
        model, view = self._models[name], self._views[name]
        if view.elsewhere and not self._overdue(name):
            return
        rivals = self._of_group(model, self._staying)
        room = self._free + self._need(self._leaving) - self._promised
        if not rivals and room >= model.need_bytes:
            if self._free >= model.need_bytes and not self._of_group(model, self._leaving):
                self._load.append(name)
                self._staying.add(name)
                self._free -= model.need_bytes
            else:
                self._promised += model.need_bytes
            return
        victims = self._victims(name, rivals, model.need_bytes - room)
        if victims:
            self._leave(victims)
            self._room_for.append(name)
            self._promised += model.need_bytes
        elif self._overdue(name) and not view.elsewhere:
            # Others must not take, bit by bit, the memory that this model waits for.
            self._promised += model.need_bytes

    def _victims(self, name: str, rivals: Sequence[str], lacking_bytes: int) -> list[str]:
        """The models that make way for `name`: as few as possible. None, where those that may leave are too small."""
        if not all(self._may_leave(rival, name) for rival in rivals):
            return []
        others = [each for each in self._staying if each not in rivals and self._may_leave(each, name)]
        chosen = list(rivals)
        for each in sorted(others, key=self._leaves_first):
            if self._need(chosen) >= lacking_bytes:
                break
            chosen.append(each)
        if self._need(chosen) < lacking_bytes:
            return []
        for each in chosen[:]:
            if each not in rivals and self._need(chosen) - self._models[each].need_bytes >= lacking_bytes:
                chosen.remove(each)
        return chosen

    def _leaves_first(self, name: str) -> tuple[bool, bool, float, str]:
        view = self._views[name]
        return not view.is_idle, bool(view.waiting), view.used_at if view.is_idle else view.since, name

    def _may_leave(self, name: str, for_name: str) -> bool:
        """Whether the model `name`, which is in memory, may make way for the model `for_name`."""
        view = self._views[name]
        if view.phase is not ResidencyPhase.LOADED:
            return False
        if view.is_idle:
            return True
        turn_s = max(self._rules.min_turn_s, self._rules.load_share * view.load_s)
        if self._views[for_name].elsewhere or self._now - view.since < turn_s:
            return False
        return not view.waiting or self._overdue(for_name)

    def _leave(self, names: Sequence[str]) -> None:
        self._unload += names
        self._staying.difference_update(names)
        self._leaving.update(names)

    def _kept(self) -> tuple[str, ...]:
        """Where no model waits for memory, those that have not begun to leave may stay."""
        return tuple(
            sorted(
                name
                for name in self._leaving.difference(self._unload)
                if self._views[name].phase is ResidencyPhase.LOADED and not self._idle_for_too_long(name)
            )
        )

    def _idle_for_too_long(self, name: str) -> bool:
        view = self._views[name]
        is_idle = view.phase is ResidencyPhase.LOADED and view.is_idle
        return is_idle and self._now - view.used_at >= self._models[name].idle_s

    def _overdue(self, name: str) -> bool:
        return self._views[name].missed_s >= self._rules.patience_s

    def _of_group(self, model: PoolModel, names: set[str]) -> list[str]:
        return sorted(name for name in names if model.group and self._models[name].group == model.group)

    def _need(self, names: "set[str] | Sequence[str]") -> int:
        return sum(self._models[name].need_bytes for name in names)
