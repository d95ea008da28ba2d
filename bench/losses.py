"""Count what llmactors and the original design lose under the same load and the same faults.

    python -m bench.losses --seconds 60 --seed 1

The faults are `kill -9` and SIGSTOP on real processes of this machine. The program exits with 1 if llmactors lost
anything.
"""

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import trio

from bench.peers.environments import python_of
from llmactors.testing.checker import CheckReport, check
from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.nemeses import (
    FreezeWorker,
    KillGateway,
    KillRedis,
    KillWorker,
    Nemesis,
    moments,
    strike_repeatedly,
    strikes,
)
from llmactors.testing.returning_clients import LoadSettings, StreamLoad

DESIGNS = ("origin", "llmactors")
Faults = Callable[[Cluster], Sequence[tuple[Nemesis, int]]]
"""For a cluster: the faults that may strike, each with its weight in the choice."""


@attrs.frozen
class FaultRun:
    """The length and the severity of one run."""

    seconds: float
    every_s: float
    seed: int
    clients: int
    max_tokens: int
    workers: int
    envs: Path | None = None
    """The directory of the Python environments of the peers; None: a directory below the user's cache directory."""
    one_by_one: bool = False
    """Whether a fault waits until all processes are ready again. Gaps then show takeovers and not process starts."""


def all_faults(cluster: Cluster) -> list[tuple[Nemesis, int]]:
    """Every kind of fault. Workers are hit most often, since most processes of a real cluster are workers."""
    return [
        (KillWorker(cluster), 4),
        (KillGateway(cluster), 2),
        (KillRedis(cluster, min_s=0.1, max_s=1.0), 1),
        (FreezeWorker(cluster, min_s=0.5, max_s=4.0), 2),
    ]


async def measure(design: str, run: FaultRun, faults: Faults = all_faults) -> CheckReport:
    settings = ClusterSettings(
        module="llmactors" if design == "llmactors" else f"bench.peers.{design}",
        python=sys.executable if design == "llmactors" else str(python_of(design, run.envs)),
        workers=run.workers,
        environ={"PYTHONPATH": str(Path(__file__).parents[1])},
        # At such a rate of faults a request may lose three workers by chance, and must not be quarantined for that.
        settings={"quarantine_from_attempt": 20},
    )
    async with Cluster(settings) as cluster:
        load_settings = LoadSettings(clients=run.clients, max_tokens=run.max_tokens)
        load = StreamLoad(lambda: cluster.gateway_urls, load_settings, seed=run.seed)
        weights = faults(cluster)
        nemeses = [nemesis for nemesis, _ in weights]
        weighted = [nemesis for nemesis, weight in weights for _ in range(weight)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            await load.wait_accepted(run.clients)
            rng = random.Random(run.seed)
            if run.one_by_one:
                await strike_when_ready(cluster, weighted, rng, run)
            else:
                await strike_repeatedly(weighted, rng, every_s=run.every_s, until=run.seconds)
            await cluster.wait_ready()
            load.stop()
        tracebacks = cluster.tracebacks()
        if design == "llmactors":
            print(*tracebacks, sep="\n", end="", file=sys.stderr)
        else:
            print(f"{len(tracebacks)} processes of {design} wrote a traceback", file=sys.stderr)
        return check(load.history, strikes=strikes(nemeses), takeovers_at=moments(nemeses[:1]))


async def strike_when_ready(cluster: Cluster, nemeses: Sequence[Nemesis], rng: random.Random, run: FaultRun) -> None:
    """Strike again and again for `run.seconds`, each time after all processes of the cluster are ready."""
    end = trio.current_time() + run.seconds
    while trio.current_time() < end:
        await cluster.wait_ready()
        await trio.sleep(run.every_s * rng.uniform(0.5, 1.5))
        await rng.choice(nemeses).strike(rng)


def main() -> None:
    parser = argparse.ArgumentParser(description="Count what llmactors and the original design lose under kill -9.")
    parser.add_argument(
        "--design", choices=DESIGNS, action="append", help="measure only this design; repeatable [both]"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the run of each design")
    parser.add_argument("--every-s", type=float, default=1.0, help="mean time between faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--max-tokens", type=int, default=100)
    parser.add_argument("--workers", type=int, default=3)
    given = parser.parse_args()
    run = FaultRun(given.seconds, given.every_s, given.seed, given.clients, given.max_tokens, given.workers)
    reports = {name: trio.run(measure, name, run) for name in given.design or DESIGNS}
    for name, report in reports.items():
        print(f"{name}: {report}")
    if "llmactors" in reports and reports["llmactors"].broken:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
