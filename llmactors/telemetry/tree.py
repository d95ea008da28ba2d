"""The log lines and metrics of a supervision tree, and the actor that measures how late the event loop is."""

from collections.abc import Awaitable, Callable, Sequence

import structlog

from llmactors.actors import Actor, Context, Exit, Observer, Tree, describe, leaves
from llmactors.actors.shutdown import PhaseReport
from llmactors.errors import OperatorError
from llmactors.telemetry.metrics import Metrics
from llmactors.telemetry.restarts import RecentRestarts
from llmactors.telemetry.stall import watch_event_loop

log = structlog.get_logger("llmactors")
_MAX_KINDS = 256
"""The number of kinds of crashes that are remembered."""


def fill_mailbox_gauges(tree: Tree, metrics: Metrics) -> None:
    """Shows the mailbox of each actor. Call this at each scrape."""
    for actor in tree.actors():
        mailbox = actor.spec.ref.mailbox.statistics()
        metrics.mailbox(actor.path, depth=mailbox.depth, peak=mailbox.peak)


def log_phases(reports: Sequence[PhaseReport]) -> None:
    """Logs one line for each phase of a shutdown."""
    for report in reports:
        log.info("shutdown phase ended", phase=report.name, outcome=report.outcome, seconds=round(report.seconds, 3))


class TelemetryActor(Actor):
    """Measures the event loop as long as the actor runs, and runs `samplers`, which measure something else."""

    def __init__(self, metrics: Metrics, samplers: Sequence[Callable[[], Awaitable[object]]] = ()) -> None:
        self._metrics = metrics
        self._samplers = samplers

    async def on_start(self, context: Context) -> None:
        context.spawn(watch_event_loop, self._metrics.event_loop_late)
        for sampler in self._samplers:
            context.spawn(sampler)


class LoggingObserver(Observer):
    """Logs and counts what happens in the tree, and keeps its newest restarts."""

    def __init__(self, metrics: Metrics, restarts: RecentRestarts | None = None) -> None:
        self._metrics = metrics
        self._restarts = restarts or RecentRestarts()
        self._shown: set[tuple[str, str, str]] = set()

    def actor_started(self, actor: str, incarnation: int) -> None:
        self._metrics.actor_started(actor)
        self._restarts.actor_started(actor, incarnation)
        log.debug("actor started", actor=actor, incarnation=incarnation)

    def restarting(
        self, supervisor: str, children: tuple[str, ...], exit_: Exit, *, delay_s: float, count: int, intensity: int
    ) -> None:
        self._restarts.restarting(supervisor, children, exit_, delay_s=delay_s)
        for child in children:
            self._metrics.actor_restarted(f"{supervisor}/{child}")
        if (
            exit_.error is not None
            and (kind := (supervisor, children[0], describe(exit_.error)[:80])) not in self._shown
        ):
            # The traceback of each kind of crash is logged once; later lines of the kind have the cause alone.
            if len(self._shown) < _MAX_KINDS:
                self._shown.add(kind)
            if not _speaks_for_itself(exit_.error):
                log.error("an actor crashed", actor=f"{supervisor}/{children[0]}", exc_info=exit_.error)
        log.warning(
            "the supervisor restarts actors",
            supervisor=supervisor,
            children=list(children),
            cause=str(exit_),
            delay_s=round(delay_s, 3),
            restarts=f"{count}/{intensity}",
        )

    def gave_up(self, supervisor: str, child: str, exit_: Exit) -> None:
        log.error(
            "the supervisor gave up: its children crashed too often",
            supervisor=supervisor,
            child=child,
            cause=str(exit_),
        )

    def doomed(self, actor: str, error: BaseException) -> None:
        log.critical("the process ends: no restart can mend this error", actor=actor, cause=describe(error))

    def dead_letter(self, actor: str, reason: str, message_type: str, cause: str) -> None:
        self._metrics.dead_letter(reason)
        log.info("an actor's message was given up", actor=actor, reason=reason, message=message_type, cause=cause)


def _speaks_for_itself(error: BaseException) -> bool:
    """Whether a traceback adds nothing: the error says what to do, as that of a child process which was killed."""
    return all(isinstance(leaf, OperatorError) for leaf in leaves(error))
