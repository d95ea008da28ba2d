"""Whether a token costs more CPU time when there are many streams: 10, 100 and 1,000 of them.

Each step of the model has a fixed cost, which the streams share. With 10 streams this cost dominates, so the ratio of
1,000 to 100 streams says more than the ratio of 1,000 to 10. The CPU time of an idle server is measured first and
subtracted.
"""

import time

from bench.scenario import Bench, Curve, Figure, Round, Scenario
from bench.servers import OURS

STEP_MS = 50
STREAMS = (10, 100, 1000)
SECONDS = 5
IDLE_S = 2.0


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """Measure all numbers of streams on one server, from few to many."""
    settings = {"max_queued": 2 * STREAMS[-1]}
    with bench.run_server(name, f"mock:step_ms={STEP_MS},slots={STREAMS[-1]}", settings=settings) as server:
        bench.load(server, clients=100, requests=100, max_tokens=10)
        before = server.usage()
        time.sleep(IDLE_S)
        idle = sum(usage.cpu_s - before[part].cpu_s for part, usage in server.usage().items()) / IDLE_S
        found: Round = {"idle_cpu_ms_per_s": idle * 1e3, "failed": 0, "cost_us": {}}
        for streams in STREAMS:
            load = bench.load(server, clients=streams, requests=streams, max_tokens=SECONDS * 1000 // STEP_MS)
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
    servers=OURS,
    figures=(
        *(Figure(f"cost_us.{streams}", f"CPU per token at {streams:,} streams", "us") for streams in STREAMS),
        Figure("many_to_few", f"cost at {STREAMS[-1]:,} streams, of that at {STREAMS[0]}", drawn=True),
        Figure("many_to_some", f"cost at {STREAMS[-1]:,} streams, of that at {STREAMS[1]}", drawn=True),
        Figure("idle_cpu_ms_per_s", "CPU of an idle server", "ms/s"),
        Figure("failed", "requests that failed"),
    ),
    measure=measure,
    rounds=2,
    curve=Curve("costs_us", "streams at once", "CPU per token, us"),
)
