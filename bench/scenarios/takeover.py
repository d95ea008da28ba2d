"""What clients see of kills: of workers and gateways under load, on llmactors' cluster and on the origin's design.

The same tools as `python -m bench.losses`, which has more kinds of faults and longer runs.
"""

import trio

from bench import losses
from bench.contestants import CLUSTER
from bench.scenario import Bench, Figure, Round, Scenario
from llmactors.testing.checker import percentiles
from llmactors.testing.nemeses import KillGateway, KillWorker

SECONDS = 20.0
PAUSE_S = 1.0
"""From when all are up to the next kill."""


def measure(bench: Bench, name: str, before: list[Round]) -> Round:
    """One round of kills."""
    run = losses.Run(
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
    verdict = trio.run(losses.measure, "llmactors" if name == CLUSTER else name, run, faults)
    gaps = [gap.seconds for gap in verdict.takeover_gaps]
    return {
        "gap_s": percentiles(gaps),
        "gaps": gaps,
        "accepted": verdict.accepted,
        "finished": verdict.finished,
        "finished_share": verdict.finished / max(1, verdict.accepted),
        "lost_requests": verdict.lost_requests,
        "lost_tokens": verdict.lost,
        "repeated_tokens": verdict.repeated,
        "wrong_tokens": verdict.wrong,
        "kills": sum(verdict.strikes.values()),
        "broken": sum(verdict.broken.values()),
    }


SCENARIO = Scenario(
    name="takeover",
    about=f"kill -9 on a worker or a gateway, as soon as all are up again, for {SECONDS:g} s, under 50 streams",
    contestants=(CLUSTER, "origin"),
    figures=(
        Figure("gap_s.p50", "gap at the death of a worker, p50", "ms", 1e3, drawn=True),
        Figure("gap_s.p99", "gap at the death of a worker, p99", "ms", 1e3, drawn=True),
        Figure("kills", "kills"),
        Figure("accepted", "requests accepted"),
        Figure("finished_share", "requests that got their whole answer", "%", 100.0, drawn=True),
        Figure("lost_requests", "requests that never ended"),
        Figure("lost_tokens", "tokens lost"),
        Figure("repeated_tokens", "tokens repeated"),
        Figure("wrong_tokens", "tokens that were wrong"),
        Figure("broken", "broken promises of any kind"),
    ),
    measure=measure,
    rounds=1,
)
