"""Shutdown in phases under one deadline, which must lie below the moment at which an orchestrator kills."""

import math
from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from llmactors.actors.envelope import describe


@attrs.frozen
class Phase:
    """One step of a shutdown, as in unbind, drain, stop, flush."""

    name: str
    run: Callable[[], Awaitable[object]]
    limit_s: float = math.inf
    """At most this long, in seconds; the overall deadline may cut it shorter."""


@attrs.frozen
class PhaseReport:
    """What became of a phase."""

    name: str
    seconds: float
    outcome: str
    """`done`, `timeout`, or the error that ended it."""


async def run_phases(phases: Sequence[Phase], *, overall_s: float) -> list[PhaseReport]:
    """Runs every phase in order, whatever became of the ones before it, and reports.

    A phase that is over its limit is cancelled; one that raises ends there. Once the overall deadline has passed,
    each remaining phase still gets to run up to its first wait. Never raises, but for a cancel from outside.
    """
    deadline = trio.current_time() + overall_s
    reports: list[PhaseReport] = []
    for phase in phases:
        begun = trio.current_time()
        outcome = "done"
        with trio.CancelScope(deadline=min(deadline, begun + phase.limit_s)) as scope:
            try:
                await phase.run()
            except* Exception as group:  # noqa: BLE001 - a failed phase must not keep the next from running
                outcome = describe(group)
        if scope.cancelled_caught:
            outcome = "timeout"
        reports.append(PhaseReport(phase.name, trio.current_time() - begun, outcome))
    return reports
