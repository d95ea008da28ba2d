"""Whether a token costs more when there are many streams: CPU time per token at 10, 100 and 1,000 of them.

Each step has a cost of its own, which few streams share; so the ratio of 1,000 to 100 says more than that to 10. What
the servers use while they wait is measured first and taken off.
"""

import time

from bench.contestants import OURS
from bench.scenario import Bench, Curve, Figure, Round, Scenario

STEP_MS = 50
STREAMS = (10, 100, 1000)
SECONDS = 5
IDLE_S = 2.0


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """All on one server, from few streams to many."""
    settings = {"max_queued": 2 * STREAMS[-1]}
    with bench.serving(name, f"mock:step_ms={STEP_MS},slots={STREAMS[-1]}", settings=settings) as serving:
        bench.load(serving, clients=100, requests=100, max_tokens=10)
        before = serving.usage()
        time.sleep(IDLE_S)
        idle = sum(usage.cpu_s - before[part].cpu_s for part, usage in serving.usage().items()) / IDLE_S
        found: Round = {"idle_cpu_ms_per_s": idle * 1e3, "failed": 0, "cost_us": {}}
        for streams in STREAMS:
            load = bench.load(serving, clients=streams, requests=streams, max_tokens=SECONDS * 1000 // STEP_MS)
            found["failed"] += load["failed"]
            cpu_s = load["busy"] * load["seconds"] - idle * load["seconds"]
            found["cost_us"][str(streams)] = cpu_s / max(1, load["tokens"]) * 1e6
            found[f"at_{streams}"] = load
    few, some, many = (found["cost_us"][str(streams)] for streams in STREAMS)
    found["costs_us"] = [(streams, found["cost_us"][str(streams)]) for streams in STREAMS]
    return found | {"many_to_few": many / few, "many_to_some": many / some}


SCENARIO = Scenario(
    name="growth",
    about=f"CPU time per token as streams grow from {STREAMS[0]} to {STREAMS[-1]:,}, a token each {STEP_MS} ms",
    contestants=OURS,
    figures=(
        *(Figure(f"cost_us.{streams}", f"CPU per token at {streams:,} streams", "us") for streams in STREAMS),
        Figure("many_to_few", f"cost at {STREAMS[-1]:,} streams to that at {STREAMS[0]}", drawn=True),
        Figure("many_to_some", f"cost at {STREAMS[-1]:,} streams to that at {STREAMS[1]}", drawn=True),
        Figure("idle_cpu_ms_per_s", "CPU while nothing is asked", "ms/s"),
        Figure("failed", "requests that failed"),
    ),
    measure=measure,
    rounds=2,
    curve=Curve("costs_us", "streams at once", "CPU per token, us"),
)
