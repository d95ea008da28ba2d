"""N gateways and M workers over S Redis servers: the gain from more processes, and what a token costs with them.

Each gateway has a load client of its own. CPU time is that of all processes, so that the cost can be compared where the
machine has fewer cores than the cluster has processes. Three loads:

- saturated: as many requests as the cluster can serve, from the same clients in all shapes;
- paced: the same streams in all shapes, at the speed of the model, so that each process has fewer of them;
- grown: as many streams for each gateway as one gateway has in `paced`.

The CPU time of the idle cluster is measured too, and is a part of the costs.
"""

import concurrent.futures
import functools
import time
from typing import Any

from bench import client
from bench.scenario import Bench, Figure, Round, Scenario, costs
from bench.servers import CLUSTER, RunningServer

SHAPES = ((1, 1, 1), (2, 2, 1), (2, 2, 2), (4, 4, 1))
CLIENTS = 60
REQUESTS = 600
MAX_TOKENS = 64
STREAMS = 100
STEP_MS = 40
PACED_TOKENS = 75
IDLE_S = 2.0
LOADS = {"cpu_us_per_token": "", "paced_cpu_us_per_token": ", paced", "grown_cpu_us_per_token": ", grown"}
"""The figures of cost, each with what its title says of the load."""


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """Measure each number of gateways and workers on fresh clusters."""
    requests, streams = bench.size(SCENARIO, "requests"), bench.size(SCENARIO, "streams")
    found: Round = {"failed": 0, "requests_per_s": {}, "idle_cpu_ms_per_s": {}, **{path: {} for path in LOADS}}
    for gateways, workers, shards in SHAPES:
        shape = f"{gateways}x{workers}x{shards}"
        run_server = functools.partial(bench.run_server, name, gateways=gateways, workers=workers, shards=shards)
        with run_server("mock:step_ms=0,slots=64") as server:
            _load(bench, server, clients=CLIENTS, requests=CLIENTS, max_tokens=MAX_TOKENS)
            load = _load(bench, server, clients=CLIENTS, requests=requests, max_tokens=MAX_TOKENS)
            found["requests_per_s"][shape] = load["correct"] / load["seconds"]
            found["cpu_us_per_token"][shape] = load["cpu_us_per_token"]
            found["failed"] += load["failed"]
        with run_server(f"mock:step_ms={STEP_MS},slots={gateways * streams}") as server:
            _load(bench, server, clients=streams, requests=streams, max_tokens=MAX_TOKENS // 4)
            before = server.usage()
            time.sleep(IDLE_S)
            idle_s = sum(usage.cpu_s - before[part].cpu_s for part, usage in server.usage().items())
            found["idle_cpu_ms_per_s"][shape] = 1e3 * idle_s / IDLE_S
            for path, all_streams in (("paced", streams), ("grown", gateways * streams)):
                load = _load(bench, server, clients=all_streams, requests=all_streams, max_tokens=PACED_TOKENS)
                found[f"{path}_cpu_us_per_token"][shape] = load["cpu_us_per_token"]
                found["failed"] += load["failed"]
    return found | ratios(found)


def ratios(found: Round) -> Round:
    """The cost of each shape of a cluster, of that of one gateway and one worker. Pure."""
    return {
        f"{path}_ratio": {shape: cost / found[path]["1x1x1"] for shape, cost in found[path].items()} for path in LOADS
    }


def _load(bench: Bench, server: RunningServer, *, clients: int, requests: int, max_tokens: int) -> dict[str, Any]:
    """Load all gateways at the same time, and sum up the results as those of one load."""
    urls = server.urls
    load = functools.partial(
        client.load,
        clients=clients // len(urls),
        requests=requests // len(urls),
        max_tokens=max_tokens,
        core=bench.client_core,
    )
    before = server.usage()
    with concurrent.futures.ThreadPoolExecutor(len(urls)) as pool:
        loads = list(pool.map(load, urls))
    summed = {key: sum(each[key] for each in loads) for key in ("correct", "tokens", "failed")}
    summed["seconds"] = max(each["seconds"] for each in loads)
    return {**summed, **costs(before, server.usage(), summed)}


_NAMES = tuple("x".join(map(str, shape)) for shape in SHAPES)
SCENARIO = Scenario(
    name="scale",
    about=f"N gateways and M workers over S Redis servers, loaded as in saturate; with {STREAMS} streams, a token each "
    f"{STEP_MS} ms; and with {STREAMS} streams for each gateway",
    servers=(CLUSTER,),
    figures=(
        *(Figure(f"requests_per_s.{shape}", f"{shape}: requests", "/s", drawn=True) for shape in _NAMES),
        *(
            Figure(f"{path}.{shape}", f"{shape}: server CPU per token{load}", "us")
            for path, load in LOADS.items()
            for shape in _NAMES
        ),
        *(
            Figure(f"{path}_ratio.{shape}", f"{shape}: server CPU per token{load}, of that of 1x1x1", "x")
            for path, load in LOADS.items()
            for shape in _NAMES[1:]
        ),
        *(Figure(f"idle_cpu_ms_per_s.{shape}", f"{shape}: CPU of the idle cluster", "ms/s") for shape in _NAMES),
        Figure("failed", "requests that failed"),
    ),
    measure=measure,
    sizes={"requests": REQUESTS, "streams": STREAMS},
)
