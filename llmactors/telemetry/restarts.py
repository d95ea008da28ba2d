"""The newest restarts of actors, for operators."""

import time
from collections import deque
from collections.abc import Callable, Sequence

import attrs

from llmactors.actors import Exit
from llmactors.telemetry.redaction import scrub

RESTARTS_KEPT = 100
_REASON_CHARS = 300


@attrs.frozen
class ActorRestart:
    """One restart of an actor by its supervisor."""

    unix_s: float
    actor: str
    """The path of the actor, as in the supervision tree."""
    incarnation: int
    """The incarnation that ended."""
    reason: str
    """Why the first actor of this restart ended. Its supervisor may restart others with it."""
    backoff_s: float
    """How long the supervisor waits before the next incarnation, in seconds."""


class RecentRestarts:
    """Keeps the last `RESTARTS_KEPT` restarts of a tree. `clock` gives the seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._restarts: deque[ActorRestart] = deque(maxlen=RESTARTS_KEPT)
        self._incarnations: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<RecentRestarts: {len(self._restarts)}>"

    def newest_first(self) -> Sequence[ActorRestart]:
        """The restarts, the newest one first."""
        return list(reversed(self._restarts))

    def actor_started(self, actor: str, incarnation: int) -> None:
        """As `Observer.actor_started`."""
        self._incarnations[actor] = incarnation

    def restarting(self, supervisor: str, children: tuple[str, ...], exit_: Exit, *, delay_s: float) -> None:
        """As `Observer.restarting`."""
        reason = scrub(str(exit_))[:_REASON_CHARS]
        for child in children:
            actor = f"{supervisor}/{child}"
            incarnation = self._incarnations.get(actor, 0)
            self._restarts.append(ActorRestart(self._clock(), actor, incarnation, reason, round(delay_s, 3)))
