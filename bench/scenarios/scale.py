"""N gateways and M workers: the gain from more processes on this machine. Each gateway has a load client of its own."""

import concurrent.futures
import functools
from typing import Any

from bench import client
from bench.scenario import Bench, Figure, Round, Scenario, costs
from bench.servers import CLUSTER

SHAPES = ((1, 1), (2, 1), (1, 2), (2, 2))
CLIENTS = 60
REQUESTS = 600
MAX_TOKENS = 64


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """Measure each number of gateways and workers on a fresh cluster."""
    found: Round = {"failed": 0, "requests_per_s": {}, "cpu_us_per_token": {}}
    for gateways, workers in SHAPES:
        with bench.run_server(name, "mock:step_ms=0,slots=64", gateways=gateways, workers=workers) as server:
            load_all = functools.partial(_load_all, bench, server.urls)
            load_all(requests=CLIENTS)
            before = server.usage()
            load = load_all(requests=REQUESTS // gateways)
            shape = f"{gateways}x{workers}"
            found["failed"] += load["failed"]
            found["requests_per_s"][shape] = load["correct"] / load["seconds"]
            found["cpu_us_per_token"][shape] = costs(before, server.usage(), load)["cpu_us_per_token"]
    return found


def _load_all(bench: Bench, urls: tuple[str, ...], requests: int) -> dict[str, Any]:
    """Load all gateways at the same time, and sum up the results as those of one load."""
    load = functools.partial(
        client.load, clients=CLIENTS // len(urls), requests=requests, max_tokens=MAX_TOKENS, core=bench.client_core
    )
    with concurrent.futures.ThreadPoolExecutor(len(urls)) as pool:
        loads = list(pool.map(load, urls))
    summed = {key: sum(each[key] for each in loads) for key in ("correct", "tokens", "failed")}
    return {**summed, "seconds": max(each["seconds"] for each in loads)}


SCENARIO = Scenario(
    name="scale",
    about="N gateways and M workers, loaded as in saturate",
    servers=(CLUSTER,),
    figures=(
        *(Figure(f"requests_per_s.{n}x{m}", f"{n} x {m}: requests", "/s", drawn=True) for n, m in SHAPES),
        *(Figure(f"cpu_us_per_token.{n}x{m}", f"{n} x {m}: server CPU per token", "us") for n, m in SHAPES),
        Figure("failed", "requests that failed"),
    ),
    measure=measure,
)
