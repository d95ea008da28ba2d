"""Measures first tokens in front of slow upstreams, without and with hedging: `python -m bench.hedging [--kills]`."""

import argparse
import random
from collections.abc import Callable

import attrs
import trio

from bench.hedging.callers import Measured, call_at_random
from bench.hedging.upstream import SlowUpstream, serving
from llmactors.testing.cluster import Cluster, ClusterSettings

_SLOW_S = 1.5
_KILL_AFTER_S = 2.0
"""How long all workers run before one of them is killed."""


@attrs.frozen
class Case:
    """Two upstreams, and how long each takes to a first token."""

    name: str
    first: Callable[[random.Random], float]
    second: Callable[[random.Random], float]


def _good(rng: random.Random) -> float:
    return rng.uniform(0.03, 0.06)


def _slow(rng: random.Random) -> float:
    return _SLOW_S + _good(rng)


def _sometimes_slow(rng: random.Random) -> float:
    return _slow(rng) if rng.random() < 0.05 else _good(rng)


CASES = (
    Case("one of two upstreams is slow", _slow, _good),
    Case("each is slow for one request in twenty", _sometimes_slow, _sometimes_slow),
)


async def _run(case: Case, hedge_s: float, requests: int, per_s: float, *, kills: bool) -> str:
    rng = random.Random(1)
    first, second = SlowUpstream(lambda: case.first(rng)), SlowUpstream(lambda: case.second(rng))
    killed = 0
    async with serving(first, second):
        model = f"openai:{first.url},model=m,continue=raw,hedge_s={hedge_s:g}|{second.url},model=m"
        settings = ClusterSettings(gateways=1, workers=2, model=f"m={model}")
        async with Cluster(settings) as cluster, trio.open_nursery() as nursery:

            async def kill() -> None:
                nonlocal killed
                while True:
                    await cluster.wait_ready()
                    await trio.sleep(_KILL_AFTER_S)
                    cluster.workers[killed % 2].kill()
                    killed += 1

            if kills:
                nursery.start_soon(kill)
            measured = await call_at_random(cluster.gateway_urls[0], requests, per_s, rng)
            nursery.cancel_scope.cancel(reason="all answers are here")
    for each in measured.wrong[:5]:
        print("wrong:", each)
    return _row(case, hedge_s, measured, first.asked + second.asked, killed)


def _row(case: Case, hedge_s: float, measured: Measured, asked: int, killed: int) -> str:
    calls = len(measured.first_s) + measured.failed
    times = " | ".join(f"{1000 * measured.percentile(share):,.0f}" for share in (0.5, 0.9, 0.99, 1.0))
    hedge = f"{1000 * hedge_s:.0f} ms" if hedge_s else "never"
    return f"| {case.name} | {hedge} | {killed} | {times} | {asked / calls:.2f} | {len(measured.wrong)} of {calls} |"


async def _main(requests: int, per_s: float, hedge_s: float, *, kills: bool) -> None:
    print("| case | second request after | kills | TTFT p50, ms | p90 | p99 | max | sent per request | wrong |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for case in CASES:
        for chosen in (0.0, hedge_s):
            print(await _run(case, chosen, requests, per_s, kills=kills), flush=True)


def main() -> None:
    """Reads the arguments, measures, and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.hedging", description=__doc__)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--per-s", type=float, default=12.0, help="how many requests come per second")
    parser.add_argument("--hedge-s", type=float, default=0.2)
    parser.add_argument("--kills", action="store_true", help="kill a worker, again and again")
    chosen = parser.parse_args()
    trio.run(lambda: _main(chosen.requests, chosen.per_s, chosen.hedge_s, kills=chosen.kills))


if __name__ == "__main__":
    main()
