"""How long urgent requests wait while long requests have all slots, with and without preemption.

    python -m bench.preemption                   # two clusters, by turns: about three minutes
    python -m bench.preemption --kill            # the same, and workers are killed with `kill -9` meanwhile
    python -m bench.preemption --after 0.3

Two clusters over Redis run one after the other in each round, each with two workers of 4 slots of the simulated model.
Clients keep all slots busy with long requests of class 2, and more of them wait. A few clients ask for short answers of
class 0, with pauses. The oracle of the simulated model checks every token of every answer, of both classes: the program
exits with 1 if a request or a token was lost, repeated or wrong.
"""

import argparse
import random
import statistics
import sys
from collections.abc import Sequence

import attrs
import trio

from llmactors.testing.checker import CheckReport, check
from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.history import RequestHistory
from llmactors.testing.nemeses import KillWorker, strikes
from llmactors.testing.returning_clients import LoadSettings, StreamLoad

SLOTS, WORKERS, LONG, SHORT = 4, 2, 400, 10
LOW = LoadSettings(clients=3 * SLOTS * WORKERS, max_tokens=LONG, priority=2, prompts="low", settle_s=120.0)
HIGH = LoadSettings(clients=3, max_tokens=SHORT, priority=0, prompts="high", think_s=2.0, head_s=30.0, settle_s=120.0)
KILL_EVERY_S = 8.0


@attrs.define
class Measured:
    """What the clients of one kind of cluster saw."""

    waits_s: list[float] = attrs.field(factory=list)
    """Of each urgent request, the time to its first token."""
    long_s: list[float] = attrs.field(factory=list)
    """Of each long request, the time to its end."""
    reports: list[CheckReport] = attrs.field(factory=list)
    preempted: int = 0


async def measure(after_s: float, seconds: float, measured: Measured, *, kill: bool, seed: int) -> None:
    """One round with one cluster."""
    model = f"mock:step_ms=20,slots={SLOTS}"
    settings = ClusterSettings(
        gateways=1,
        workers=WORKERS,
        model=model,
        settings={"preempt_after_s": after_s, "resume_grace_s": 60},
        start_s=60,
    )
    async with Cluster(settings) as cluster:
        low = StreamLoad(lambda: cluster.gateway_urls, LOW, seed=seed)
        high = StreamLoad(lambda: cluster.gateway_urls, HIGH, seed=seed)
        killing = KillWorker(cluster)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(low.run)
            await low.wait_accepted(2 * SLOTS * WORKERS)
            await trio.sleep(2)
            nursery.start_soon(high.run)
            with trio.move_on_after(seconds):
                while True:
                    await trio.sleep(KILL_EVERY_S)
                    if kill:
                        await killing.strike(random.Random(seed))
            await cluster.wait_ready()
            high.stop()
            low.stop()
        measured.waits_s += [wait for each in high.history.requests if (wait := first_token_s(each)) is not None]
        measured.long_s += [each.ends[0].at - each.sent_at for each in low.history.requests if each.ends]
        faults = strikes([killing])
        measured.reports += [check(load.history, strikes=faults) for load in (low, high)]
        measured.preempted += sum(text.count("gave up its slot") for text in logs_of(cluster))


def first_token_s(request: RequestHistory) -> float | None:
    """The time from the request to its first token; None where no token came."""
    return request.tokens[0].at - request.sent_at if request.tokens else None


def logs_of(cluster: Cluster) -> list[str]:
    """The logs of all processes of the cluster so far."""
    return [path.read_text(errors="replace") for path in cluster.directory.iterdir() if path.is_file()]


def line(name: str, measured: Measured) -> str:
    """One row of figures."""
    waits, longs = sorted(measured.waits_s), sorted(measured.long_s)
    p99 = waits[min(len(waits) - 1, int(0.99 * len(waits)))]
    low = statistics.median(longs)
    return f"{name:18} {len(waits):8} {statistics.median(waits):8.2f} {p99:8.2f} {measured.preempted:12} {low:14.1f}"


async def run(after_s: float, rounds: int, seconds: float, *, kill: bool) -> bool:
    """Prints the figures. Returns whether every token was right."""
    kinds = {"with": after_s, "without": 0.0}
    found = {name: Measured() for name in kinds}
    for number in range(rounds):
        for name in sorted(kinds, reverse=bool(number % 2)):
            await measure(kinds[name], seconds, found[name], kill=kill, seed=number)
            print(f"round {number + 1} of {rounds}, {name} preemption", flush=True)
    print(f"{'preemption':18} {'urgent':>8} {'TTFT p50':>8} {'p99 (s)':>8} {'preemptions':>12} {'long p50 (s)':>14}")
    for name in kinds:
        print(line(name, found[name]))
    reports: Sequence[CheckReport] = [report for measured in found.values() for report in measured.reports]
    for report in reports:
        print(report)
    return not any(report.broken for report in reports)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--after", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--kill", action="store_true")
    chosen = parser.parse_args()
    if not trio.run(lambda: run(chosen.after, chosen.rounds, chosen.seconds, kill=chosen.kill)):
        sys.exit(1)


if __name__ == "__main__":
    main()
