"""A shutdown in phases under one deadline, which must end before the orchestrator kills the process."""

import math
from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from llmactors.actors.envelope import describe, fatal


@attrs.frozen
class Phase:
    """One step of a shutdown, such as a drain."""

    name: str
    run: Callable[[], Awaitable[object]]
    limit_s: float = math.inf
    """The time that the phase may take, in seconds. The overall deadline may end the phase earlier."""


@attrs.frozen
class PhaseReport:
    """How a phase ended."""

    name: str
    seconds: float
    outcome: str
    """`done`, `timeout`, or the error that ended it."""


async def run_phases(phases: Sequence[Phase], *, overall_s: float) -> list[PhaseReport]:
    """Runs all phases in order, also after a phase that failed or took too long, and returns a report of each.

    A phase is cancelled at its limit. After the overall deadline, each remaining phase still runs up to its first wait.
    Nothing is raised except a cancel from outside, and an error that nothing may survive (see `fatal`). After such an
    error no other phase runs.
    """
    deadline = trio.current_time() + overall_s
    reports: list[PhaseReport] = []
    for phase in phases:
        begun = trio.current_time()
        outcome = "done"
        with trio.CancelScope(deadline=min(deadline, begun + phase.limit_s)) as scope:
            try:
                await phase.run()
            except* Exception as group:
                if fatal(group) is not None:
                    raise
                outcome = describe(group)
        if scope.cancelled_caught:
            outcome = "timeout"
        reports.append(PhaseReport(phase.name, trio.current_time() - begun, outcome))
    return reports
