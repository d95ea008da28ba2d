"""The runs that tell what each step costs, and those that the model is tested with."""

import concurrent.futures
import functools
import time
from collections.abc import Iterator, Mapping, Sequence

from bench import client
from bench.servers import CLUSTER, RunningServer, run_server
from bench.sizing.fit import Run
from bench.sizing.model import PARTS, Cluster, Load, Part
from llmactors.load.processes import ProcessUsage

STEP_MS = 40
SECONDS = 4.0
IDLE_S = 3.0
SHORT, LONG = 10, 100
"""Tokens of a request. Short requests tell what a request costs, and long ones what a token costs."""
FEW, MANY = 24, 192
"""Streams. Few streams tell what a step costs, and many what a token costs."""
FITTED = {Cluster(1, 1): ((FEW, LONG), (MANY, LONG), (MANY, SHORT)), Cluster(2, 1): ((MANY, LONG),)}
"""The runs that the costs come from: for each cluster, the streams and the tokens of each request."""
TESTED = {Cluster(2, 2): ((96, LONG), (MANY, LONG)), Cluster(4, 4): ((96, LONG), (384, LONG))}
"""The runs that the model is tested with."""


def runs(shapes: Mapping[Cluster, Sequence[tuple[int, int]]]) -> Iterator[Run]:
    """Measures an idle cluster of each shape, and the loads on it."""
    for cluster, loads in shapes.items():
        most = max(streams for streams, _ in loads)
        model = f"mock:step_ms={STEP_MS},slots={most}"
        with run_server(CLUSTER, model, gateways=cluster.gateways, workers=cluster.workers) as server:
            _ask(server, most, most, SHORT)  # what is made once is made now
            before = server.usage()
            time.sleep(IDLE_S)
            yield Run(cluster, None, IDLE_S, _between(before, server.usage()))
            for streams, tokens in loads:
                yield _loaded(server, cluster, streams, tokens)


def _loaded(server: RunningServer, cluster: Cluster, streams: int, tokens: int) -> Run:
    each = max(1, round(SECONDS * 1e3 / STEP_MS / tokens))
    before, begun = server.usage(), time.monotonic()
    made = _ask(server, streams, streams * each, tokens)
    seconds = time.monotonic() - begun
    # A slow machine makes fewer steps, and so the load is what was seen.
    load = Load(streams, made / seconds / streams, tokens)
    return Run(cluster, load, seconds, _between(before, server.usage()))


def _ask(server: RunningServer, streams: int, requests: int, tokens: int) -> int:
    """Loads all gateways at the same time, and returns how many tokens were made."""
    count = len(server.urls)
    load = functools.partial(
        client.load, clients=streams // count, requests=requests // count, max_tokens=tokens, limit_s=120.0
    )
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        found = list(pool.map(load, server.urls))
    if failed := sum(each["failed"] for each in found):
        raise RuntimeError(f"{failed} requests failed: the machine is too busy for the load")
    return sum(each["tokens"] for each in found)


def _between(before: dict[str, ProcessUsage], after: dict[str, ProcessUsage]) -> dict[Part, float]:
    return {part: after[part].cpu_s - before[part].cpu_s for part in PARTS}
