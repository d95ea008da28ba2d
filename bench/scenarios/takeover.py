"""What clients notice when workers and gateways are killed under load: llmactors over Redis and the original design.

`python -m bench.losses` uses the same tools for more kinds of faults and longer runs.
"""

import trio

from bench import losses
from bench.scenario import Bench, Figure, Round, Scenario
from bench.servers import CLUSTER
from llmactors.testing.checker import percentiles
from llmactors.testing.nemeses import KillGateway, KillWorker

SECONDS = 15.0
PAUSE_S = 1.0
"""The mean time from the moment when all processes are ready to the next kill."""


def measure(bench: Bench, name: str, before: list[Round]) -> Round:
    """Measure one round of kills."""
    run = losses.FaultRun(
        seconds=SECONDS,
        every_s=PAUSE_S,
        seed=1 + len(before),
        clients=50,
        max_tokens=100,
        workers=3,
        envs=bench.envs,
        one_by_one=True,
    )
    faults = lambda cluster: [(KillWorker(cluster), 3), (KillGateway(cluster), 1)]  # noqa: E731
    report = trio.run(losses.measure, "llmactors" if name == CLUSTER else name, run, faults)
    gaps = [gap.seconds for gap in report.takeover_gaps]
    return {
        "gap_s": percentiles(gaps),
        "gaps": gaps,
        "accepted": report.accepted,
        "finished": report.finished,
        "finished_share": report.finished / max(1, report.accepted),
        "lost_requests": report.lost_requests,
        "lost_tokens": report.lost,
        "repeated_tokens": report.repeated,
        "wrong_tokens": report.wrong,
        "kills": sum(report.strikes.values()),
        "broken": sum(report.broken.values()),
    }


SCENARIO = Scenario(
    name="takeover",
    about=f"kill -9 of a worker or a gateway whenever all are ready again, for {SECONDS:g} s, under 50 streams",
    servers=(CLUSTER, "origin"),
    figures=(
        Figure("gap_s.p50", "gap in a stream whose worker was killed, p50", "ms", 1e3, drawn=True),
        Figure("gap_s.p99", "gap in a stream whose worker was killed, p99", "ms", 1e3, drawn=True),
        Figure("kills", "kills"),
        Figure("accepted", "requests accepted"),
        Figure("finished_share", "requests that got a complete answer", "%", 100.0, drawn=True),
        Figure("lost_requests", "requests that never ended"),
        Figure("lost_tokens", "tokens lost"),
        Figure("repeated_tokens", "tokens repeated"),
        Figure("wrong_tokens", "tokens that were wrong"),
        Figure("broken", "broken promises of any kind"),
    ),
    measure=measure,
    rounds=1,
)
