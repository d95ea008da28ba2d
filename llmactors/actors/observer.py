"""Where the runtime tells what happens in it: logs and metrics hang themselves on here."""

import contextlib
import logging
from collections.abc import Iterator

from llmactors.actors.envelope import Exit

_log = logging.getLogger(__name__)


class Observer:
    """Hears everything, says nothing. Override what you want to hear.

    A method must not block. One that raises is logged, and otherwise ignored: no actor dies of a broken metric.
    """

    def actor_started(self, actor: str, incarnation: int) -> None:
        """An incarnation is up."""

    def actor_exited(self, actor: str, incarnation: int, exit_: Exit) -> None:
        """An incarnation ended, for whatever reason."""

    def restarting(
        self, supervisor: str, children: tuple[str, ...], exit_: Exit, *, delay_s: float, count: int, intensity: int
    ) -> None:
        """`children` will be started in `delay_s` seconds. `count` of `intensity` restarts are used up."""

    def gave_up(self, supervisor: str, child: str, exit_: Exit) -> None:
        """A supervisor's intensity was exceeded by `child`: it stops its children and escalates."""

    def dead_letter(self, actor: str, reason: str, message_type: str, cause: str) -> None:
        """A message was given up."""


class GuardedObserver(Observer):
    """For the runtime: passes everything on to another observer, and lets none of its errors out."""

    def __init__(self, inner: Observer) -> None:
        self._inner = inner

    def actor_started(self, actor: str, incarnation: int) -> None:
        with _logged():
            self._inner.actor_started(actor, incarnation)

    def actor_exited(self, actor: str, incarnation: int, exit_: Exit) -> None:
        with _logged():
            self._inner.actor_exited(actor, incarnation, exit_)

    def restarting(
        self, supervisor: str, children: tuple[str, ...], exit_: Exit, *, delay_s: float, count: int, intensity: int
    ) -> None:
        with _logged():
            self._inner.restarting(supervisor, children, exit_, delay_s=delay_s, count=count, intensity=intensity)

    def gave_up(self, supervisor: str, child: str, exit_: Exit) -> None:
        with _logged():
            self._inner.gave_up(supervisor, child, exit_)

    def dead_letter(self, actor: str, reason: str, message_type: str, cause: str) -> None:
        with _logged():
            self._inner.dead_letter(actor, reason, message_type, cause)


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except Exception:  # noqa: BLE001 - whatever it is, it stays here
        _log.exception("an observer raised")
