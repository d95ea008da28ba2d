"""The loads under which two revisions are compared. Each workload is a scenario of the benchmark in short turns."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from bench.scenario import Bench, Figure, Round, costs
from bench.scenarios import idle, paced, saturate
from bench.servers import RunningServer
from llmactors.load.measure import measure
from llmactors.load.plan import Check, Plan
from llmactors.load.target import Target

CPU_PER_TOKEN = Figure("cpu_us_per_token", "server CPU per token", "us")
PARTS = ("gateway", "worker", "redis")
LIMIT_S = 60.0


@attrs.frozen
class Workload:
    """One kind of load, and the figures that are compared."""

    name: str
    about: str
    model: str
    clients: int
    """Streams at a time."""
    requests: int
    """Answers in a turn."""
    max_tokens: int
    """Tokens of an answer."""
    turn_s: float
    """The approximate length of a turn."""
    figures: tuple[Figure, ...]
    derive: Callable[[Round], Round] = lambda found: found
    """Adds the figures that are computed from others."""

    def turn(self, bench: Bench, server: RunningServer) -> Round:
        """Load one server for one turn, from this process.

        A load client with a process of its own would take longer to start than a turn lasts.

        Raises:
            RuntimeError: A token was wrong, or an answer was refused or cut.
            KeyboardInterrupt: SIGINT came during the turn.
        """
        plan = Plan(
            target=Target.parse(server.url),
            check=Check.MOCK,
            clients=self.clients,
            requests=self.requests,
            max_tokens=self.max_tokens,
            limit_s=LIMIT_S,
        )
        with pinned(bench.client_core):
            before = server.usage()
            found: dict[str, Any] = measure(plan)
            after = server.usage()
        if found["ended"] == "interrupted":  # the load client catches SIGINT while it measures
            raise KeyboardInterrupt
        if found["failed"] or not found["correct"]:
            raise RuntimeError(f"{found['correct']} answers were right and {found['failed']} not: {found['errors']}")
        return self.derive(found | costs(before, after, found))


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run this process on one core until the block ends; None leaves all cores to the process.

    Processes that are started later would inherit the core, so the block must start none.
    """
    cores = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


_PACED_TURN_S = 0.8
_PACED_CLIENTS = 100
WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            name="paced",
            about=f"{_PACED_CLIENTS} streams at a time from a model that steps every {paced.STEP_MS} ms",
            model=f"mock:step_ms={paced.STEP_MS},slots=512",
            clients=_PACED_CLIENTS,
            requests=_PACED_CLIENTS,
            max_tokens=round(_PACED_TURN_S * 1e3 / paced.STEP_MS),
            turn_s=_PACED_TURN_S,
            figures=(CPU_PER_TOKEN, Figure("token_gap_s.p99", "gap between tokens, p99", "ms", 1e3)),
        ),
        Workload(
            name="saturate",
            about=f"{saturate.CLIENTS} streams at a time from a model that takes no time",
            model=saturate.MODEL,
            clients=saturate.CLIENTS,
            requests=6 * saturate.CLIENTS,
            max_tokens=saturate.MAX_TOKENS,
            turn_s=0.4,
            figures=(
                CPU_PER_TOKEN,
                Figure("requests_per_s", "requests per second", "/s"),
                Figure("ttft_s.p50", "time to first token, p50", "ms", 1e3),
            ),
        ),
        Workload(
            name="idle",
            about=f"one client, and a model that steps every {idle.STEP_MS} ms",
            model=idle.MODEL,
            clients=1,
            requests=8,
            max_tokens=idle.MAX_TOKENS,
            turn_s=8 * idle.MAX_TOKENS * idle.STEP_MS / 1e3,
            figures=(CPU_PER_TOKEN, Figure("added_ttft_s.p50", "time to first token added, p50", "ms", 1e3)),
            derive=idle.with_added_times,
        ),
    )
}


def figures_of(workload: Workload, *, parts: bool) -> tuple[Figure, ...]:
    """The figures of a workload; with `parts`, also the CPU time of each part of a cluster."""
    first, *others = workload.figures
    each = (
        [Figure(f"parts_cpu_us_per_token.{part}", f"server CPU per token, {part}", "us") for part in PARTS]
        if parts
        else []
    )
    return (first, *each, *others)
