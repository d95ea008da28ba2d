"""The cost of the way through a proxy in front of an upstream: llmactors beside vllm-router, behind the same upstream.

The upstream (`bench.peers.upstream`) runs in a process of its own on the core of the load client, and its CPU time is
not counted. Each round has four loads for each server:

- saturated: an upstream that takes no time, with as many requests as the server can serve;
- short: one client whose short answers come through the server and straight from the upstream, by turns;
- paced: some streams, for each of which the upstream makes a token every 20 ms, at times of its own;
- crowded: many paced streams, with all processes of the server on one core.
"""

import os
import statistics
from pathlib import Path
from typing import Any

from bench.scenario import COSTS, Bench, Figure, Round, Scenario
from bench.servers import BEHIND, OURS, UPSTREAM_MODEL, RunningServer, run_upstream

STEP_MS = 20
PACED = 40
PACED_TOKENS = 150
CLIENTS = 60
REQUESTS = 300
MAX_TOKENS = 64
SHORT_TURNS = 3
SHORT_REQUESTS = 60
SHORT_TOKENS = 8
CROWDED = 200
CROWDED_TOKENS = 300
_CHAT: dict[str, Any] = {"api": "chat", "model": UPSTREAM_MODEL}


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """Measure the four loads on one server."""
    found: Round = {"failed": 0, "errors": {}}
    with run_upstream(0) as upstream, bench.run_server(name, model_of(name, upstream)) as server:
        _pin(upstream, bench.client_core)
        bench.load(server, clients=CLIENTS, requests=CLIENTS, max_tokens=MAX_TOKENS, **_CHAT)
        load = bench.load(server, clients=CLIENTS, requests=REQUESTS, max_tokens=MAX_TOKENS, **_CHAT)
        _add(found, "saturated", load)
        found["added_s"] = _added_s(bench, server, upstream)
    with run_upstream(STEP_MS) as upstream, bench.run_server(name, model_of(name, upstream)) as server:
        _pin(upstream, bench.client_core)
        bench.load(server, clients=PACED, requests=PACED, max_tokens=MAX_TOKENS, **_CHAT)
        load = bench.load(server, clients=PACED, requests=PACED, max_tokens=PACED_TOKENS, **_CHAT)
        _add(found, "paced", load)
        _pin(server, min(os.sched_getaffinity(0)))
        load = bench.load(server, clients=CROWDED, requests=CROWDED, max_tokens=CROWDED_TOKENS, **_CHAT)
        _add(found, "crowded", load)
    return found


def model_of(name: str, upstream: RunningServer) -> str:
    """What the server `name` is started with to serve the model of `upstream`."""
    if name in OURS:
        return f"openai:{upstream.url}/v1,model={UPSTREAM_MODEL},slots={2 * CROWDED}"
    return upstream.url


def _add(found: Round, name: str, load: Round) -> None:
    """Add one load to the round, with its failures."""
    found[name] = load
    found["failed"] += load["failed"]
    found["errors"] |= load["errors"]


def _added_s(bench: Bench, server: RunningServer, upstream: RunningServer) -> float:
    """The median latency of short answers through the server, less that of answers straight from the upstream."""
    latencies: list[list[float]] = [[], []]
    for _ in range(SHORT_TURNS):
        for each, into in zip((server, upstream), latencies, strict=True):
            load = bench.load(each, clients=1, requests=SHORT_REQUESTS, max_tokens=SHORT_TOKENS, **_CHAT)
            if load["failed"]:
                raise RuntimeError(f"{load['failed']} short answers failed: {load['errors']}")
            into.append(load["latency_s"]["p50"])
    through, direct = map(statistics.median, latencies)
    return through - direct


def _pin(server: RunningServer, core: int | None) -> None:
    """Move all threads of a server to one core; None leaves all cores to the server."""
    if core is None:
        return
    for pids in server.parts.values():
        for pid in pids():
            for thread in (Path("/proc") / str(pid) / "task").iterdir():
                os.sched_setaffinity(int(thread.name), {core})


SCENARIO = Scenario(
    name="proxy",
    about=(
        f"chats through a proxy to one upstream: {REQUESTS} answers of {MAX_TOKENS} tokens, {CLIENTS} at a time, "
        f"without a pause; {PACED} streams with a token every {STEP_MS} ms, and {CROWDED} on one core"
    ),
    servers=BEHIND,
    figures=(
        Figure("paced.cpu_us_per_token", f"server CPU per token, {PACED} paced streams", "us", drawn=True),
        Figure("saturated.cpu_us_per_token", "server CPU per token, saturated", "us", drawn=True),
        Figure("added_s", f"time added to an answer of {SHORT_TOKENS} tokens, p50", "ms", 1e3, drawn=True),
        Figure(
            "crowded.token_gap_s.p99", f"gap between tokens, {CROWDED} streams on one core, p99", "ms", 1e3, drawn=True
        ),
        Figure("crowded.cpu_us_per_token", f"server CPU per token, {CROWDED} streams on one core", "us"),
        Figure("crowded.busy", f"server busy, {CROWDED} streams on one core", "%", 100.0),
        Figure("paced.token_gap_s.p99", f"gap between tokens, {PACED} paced streams, p99", "ms", 1e3),
        Figure("saturated.requests_per_s", "requests per second, saturated", "/s"),
        *(
            Figure(f"{load}.{figure.path}", f"{figure.title}, {load}", figure.unit, figure.scale)
            for load in ("paced", "saturated")
            for figure in COSTS
            if figure.path.startswith(("parts", "client"))
        ),
        Figure("failed", "requests that failed"),
    ),
    measure=measure,
    rounds=5,
)
