"""Supervision as a table: which children are stopped and started when a child exits. Pure: no Trio, no clock.

The rules are OTP's (https://www.erlang.org/doc/apps/stdlib/supervisor.html) with one addition, backoff:

    restart type   exit normal          exit crashed
    PERMANENT      restart              restart
    TRANSIENT      no restart           restart
    TEMPORARY      no restart           no restart; nor when a sibling's restart stopped the child

    strategy       restarted with the child
    ONE_FOR_ONE    no other child
    ONE_FOR_ALL    all its siblings
    REST_FOR_ONE   the siblings that start after the child

Children start from first to last, and stop from last to first. At more than `intensity` restarts within `period_s` the
supervisor gives up. The restart of a group counts as one, and so does each failed start.
"""

import collections
import enum
import random
from collections.abc import Iterable

import attrs

from llmactors.actors.backoff import Backoff


class Restart(enum.Enum):
    """Whether a child is started again after its end."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


class Strategy(enum.Enum):
    """Which children are restarted together with a child that ended."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


@attrs.frozen
class RestartPlan:
    """What a supervisor does about one exit."""

    stop: tuple[str, ...] = ()
    """The children to stop, in this order. Some may have ended already."""
    start: tuple[str, ...] = ()
    """The children to start after `delay_s`, in this order."""
    ended: tuple[str, ...] = ()
    """The children that are never started again."""
    delay_s: float = 0.0
    give_up: bool = False
    """Whether the intensity is exceeded, so that the supervisor stops all children and fails."""


@attrs.define
class Planner:
    """What one supervisor remembers: its children in start order, and their restarts within the period.

    `now` is the time in seconds on any monotonic clock, the same clock for all calls.
    """

    children: Iterable[tuple[str, Restart]]
    strategy: Strategy
    intensity: int
    period_s: float
    backoff: Backoff
    rng: random.Random
    _types: dict[str, Restart] = attrs.field(init=False)
    _restarts: collections.deque[float] = attrs.field(factory=collections.deque, init=False)
    _streaks: dict[str, int] = attrs.field(factory=dict, init=False)
    _started_at: dict[str, float] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._types = dict(self.children)

    def add(self, name: str, restart: Restart) -> None:
        """Adds a child behind all others."""
        self._types[name] = restart

    def remove(self, name: str) -> None:
        """Forgets a child."""
        for known in (self._types, self._streaks, self._started_at):
            known.pop(name, None)

    @property
    def recent_restarts(self) -> int:
        """The restarts that counted against the intensity at the last exit."""
        return len(self._restarts)

    def on_started(self, name: str, now: float) -> None:
        """Records that `name` is up. The restart streak resets `stable_s` after this."""
        self._started_at[name] = now

    def on_exit(self, name: str, *, crashed: bool, now: float) -> RestartPlan:
        """Decides what follows from the exit of `name`, or from its failure to start again."""
        restart = self._types[name]
        if restart is Restart.TEMPORARY or (restart is Restart.TRANSIENT and not crashed):
            return RestartPlan(ended=(name,))
        self._restarts.append(now)
        while self._restarts and now - self._restarts[0] >= self.period_s:
            self._restarts.popleft()
        if len(self._restarts) > self.intensity:
            return RestartPlan(stop=tuple(reversed(self._types)), give_up=True)
        group = self._group(name)
        bystanders = {child for child in group if self._types[child] is Restart.TEMPORARY}
        return RestartPlan(
            stop=tuple(child for child in reversed(group) if child != name),
            start=tuple(child for child in group if child not in bystanders),
            ended=tuple(child for child in group if child in bystanders),
            delay_s=self._next_delay_s(name, now),
        )

    def _group(self, name: str) -> list[str]:
        match self.strategy:
            case Strategy.ONE_FOR_ONE:
                return [name]
            case Strategy.ONE_FOR_ALL:
                return list(self._types)
            case Strategy.REST_FOR_ONE:
                order = list(self._types)
                return order[order.index(name) :]

    def _next_delay_s(self, name: str, now: float) -> float:
        started_at = self._started_at.pop(name, None)
        if started_at is not None and now - started_at >= self.backoff.stable_s:
            self._streaks[name] = 0
        streak = self._streaks.get(name, 0)
        self._streaks[name] = streak + 1
        return self.backoff.delay_s(streak, self.rng)
