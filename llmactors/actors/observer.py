"""The interface through which logs and metrics learn what happens in a tree."""

import contextlib
import logging
from collections.abc import Callable, Iterator

from llmactors.actors.envelope import Exit, fatal

_log = logging.getLogger(__name__)


class Observer:
    """Its methods are called for the events of a tree. A subclass overrides the methods that it needs.

    A method must not block. An exception of a method is logged and has no other effect, so that a broken metric crashes
    no actor. An error that nothing may survive (see `fatal`) stops the tree, and `Tree.run` raises the error.
    """

    def actor_started(self, actor: str, incarnation: int) -> None:
        """An incarnation has started."""

    def actor_exited(self, actor: str, incarnation: int, exit_: Exit) -> None:
        """An incarnation has ended, by a crash or in order."""

    def restarting(
        self, supervisor: str, children: tuple[str, ...], exit_: Exit, *, delay_s: float, count: int, intensity: int
    ) -> None:
        """The supervisor starts `children` again in `delay_s` seconds: restart `count` of at most `intensity`."""

    def gave_up(self, supervisor: str, child: str, exit_: Exit) -> None:
        """The exit of `child` exceeded the supervisor's intensity, so the supervisor stops its children and fails."""

    def doomed(self, actor: str, error: BaseException) -> None:
        """An error that nothing may survive ended `actor`, so the whole tree stops."""

    def dead_letter(self, actor: str, reason: str, message_type: str, cause: str) -> None:
        """A message was given up, for one of the reasons of `DeadReason`."""


class GuardedObserver(Observer):
    """Calls another observer, logs its exceptions, and passes errors that nothing may survive to `on_fatal`.

    No method raises: the runtime calls observers in the middle of changes that must be completed. For the runtime only.
    """

    def __init__(
        self, inner: Observer, on_fatal: Callable[[BaseException], None], on_doomed: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._on_doomed = on_doomed
        self._on_fatal = on_fatal

    def actor_started(self, actor: str, incarnation: int) -> None:
        with self._guarded():
            self._inner.actor_started(actor, incarnation)

    def actor_exited(self, actor: str, incarnation: int, exit_: Exit) -> None:
        with self._guarded():
            self._inner.actor_exited(actor, incarnation, exit_)

    def restarting(
        self, supervisor: str, children: tuple[str, ...], exit_: Exit, *, delay_s: float, count: int, intensity: int
    ) -> None:
        with self._guarded():
            self._inner.restarting(supervisor, children, exit_, delay_s=delay_s, count=count, intensity=intensity)

    def gave_up(self, supervisor: str, child: str, exit_: Exit) -> None:
        with self._guarded():
            self._inner.gave_up(supervisor, child, exit_)

    def doomed(self, actor: str, error: BaseException) -> None:
        self._on_doomed()
        with self._guarded():
            self._inner.doomed(actor, error)

    def dead_letter(self, actor: str, reason: str, message_type: str, cause: str) -> None:
        with self._guarded():
            self._inner.dead_letter(actor, reason, message_type, cause)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - a broken observer must not crash the runtime
            unmendable = fatal(error)
            if unmendable is None:
                _log.exception("an observer of the actor tree raised an exception, which is ignored")
            else:
                self._on_fatal(unmendable)
