"""The cost of the way through a proxy in front of an upstream: llmactors beside other proxies of the same upstream.

The upstream (`bench.peers.upstream`) runs in a process of its own on the core of the load client, and its CPU time is
not counted. Each round has four loads for each server:

- saturated: an upstream that takes no time, with as many requests as the server can serve;
- short: one client whose short answers come through the server and straight from the upstream, by turns;
- paced: some streams, for each of which the upstream makes a token every 20 ms, at times of its own;
- crowded: many paced streams, with all processes of the server on one core.

Then the upstream and the proxy itself are killed in mid-stream: see `bench.proxy_kills`.
"""

import os
import statistics
from pathlib import Path
from typing import Any

from bench import proxy_kills
from bench.proxy_kills import model_of
from bench.scenario import COSTS, Bench, Figure, Round, Scenario
from bench.servers import BEHIND, UPSTREAM_MODEL, RunningServer, run_upstream

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
KILL_CLIENTS = 12
LIMIT_S = 300.0
"""Of one load: the slowest proxy needs a minute for what the fastest one does in a second."""
_CHAT: dict[str, Any] = {"api": "chat", "model": UPSTREAM_MODEL, "limit_s": LIMIT_S, "stall_s": LIMIT_S}


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """Measure the four loads on one server, and the kills."""
    found: Round = {"failed": 0, "errors": {}}
    requests = bench.size(SCENARIO, "requests")
    with run_upstream(0) as upstream, bench.run_server(name, model_of(name, [upstream])) as server:
        _pin(upstream, bench.client_core)
        bench.load(server, clients=CLIENTS, requests=CLIENTS, max_tokens=MAX_TOKENS, **_CHAT)
        load = bench.load(server, clients=CLIENTS, requests=requests, max_tokens=MAX_TOKENS, **_CHAT)
        _add(found, "saturated", load)
        found |= _added(bench, server, upstream)
    with run_upstream(STEP_MS) as upstream, bench.run_server(name, model_of(name, [upstream])) as server:
        _pin(upstream, bench.client_core)
        streams, crowd = bench.size(SCENARIO, "paced"), bench.size(SCENARIO, "crowded")
        bench.load(server, clients=streams, requests=streams, max_tokens=MAX_TOKENS, **_CHAT)
        load = bench.load(server, clients=streams, requests=streams, max_tokens=PACED_TOKENS, **_CHAT)
        _add(found, "paced", load)
        _pin(server, min(os.sched_getaffinity(0)))
        load = bench.load(server, clients=crowd, requests=crowd, max_tokens=CROWDED_TOKENS, **_CHAT)
        _add(found, "crowded", load)
    return found | proxy_kills.measure(bench, name, bench.size(SCENARIO, "kill_clients"))


def _add(found: Round, name: str, load: Round) -> None:
    """Add one load to the round, with its failures."""
    found[name] = load
    found["failed"] += load["failed"]
    found["errors"] |= load["errors"]


def _added(bench: Bench, server: RunningServer, upstream: RunningServer) -> Round:
    """The medians of short answers through the server, less those of answers straight from the upstream."""
    loads: list[list[Round]] = [[], []]
    for _ in range(SHORT_TURNS):
        for each, into in zip((server, upstream), loads, strict=True):
            load = bench.load(each, clients=1, requests=SHORT_REQUESTS, max_tokens=SHORT_TOKENS, **_CHAT)
            if load["failed"]:
                raise RuntimeError(f"{load['failed']} short answers failed: {load['errors']}")
            into.append(load)
    return {f"added{part}_s": added(loads, path) for part, path in (("", "latency_s"), ("_ttft", "ttft_s"))}


def added(loads: list[list[Round]], path: str) -> float:
    """The median of a time through the server less the median straight from the upstream. Pure."""
    through, direct = (statistics.median(float(each[path]["p50"]) for each in turns) for turns in loads)
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
        f"without a pause; {PACED} streams with a token every {STEP_MS} ms, and {CROWDED} on one core; and "
        f"{KILL_CLIENTS} streams whose upstream, and then whose proxy, is killed"
    ),
    servers=BEHIND,
    figures=(
        Figure("paced.cpu_us_per_token", f"server CPU per token, {PACED} paced streams", "us", drawn=True),
        Figure("saturated.cpu_us_per_token", "server CPU per token, saturated", "us", drawn=True),
        Figure("saturated.requests_per_s", "requests per second, saturated", "/s", drawn=True),
        Figure("added_ttft_s", "time to first token added to a short answer, p50", "ms", 1e3, drawn=True),
        Figure("added_s", f"time added to an answer of {SHORT_TOKENS} tokens, p50", "ms", 1e3),
        Figure(
            "crowded.token_gap_s.p99", f"gap between tokens, {CROWDED} streams on one core, p99", "ms", 1e3, drawn=True
        ),
        Figure("crowded.cpu_us_per_token", f"server CPU per token, {CROWDED} streams on one core", "us"),
        Figure("crowded.busy", f"server busy, {CROWDED} streams on one core", "%", 100.0),
        Figure("paced.token_gap_s.p99", f"gap between tokens, {PACED} paced streams, p99", "ms", 1e3),
        Figure("paced.resident_bytes", f"server memory, {PACED} paced streams", "MiB", 2.0**-20),
        Figure("crowded.resident_bytes", f"server memory, {CROWDED} streams", "MiB", 2.0**-20),
        *(
            Figure(f"{load}.{figure.path}", f"{figure.title}, {load}", figure.unit, figure.scale)
            for load in ("paced", "saturated")
            for figure in COSTS
            if figure.path.startswith(("parts", "client"))
        ),
        Figure(
            "upstream_killed.complete_share", "complete answers where the upstream is killed", "%", 100.0, drawn=True
        ),
        Figure("upstream_killed.longest_gap_s", "longest gap in them, p50", "ms", 1e3),
        Figure("upstream_killed.wrong", "wrong tokens where the upstream is killed"),
        Figure("upstream_killed.repeated", "repeated tokens where the upstream is killed"),
        Figure("upstream_killed.quiet_cuts", "answers cut without an error where the upstream is killed"),
        Figure("proxy_killed.complete_share", "complete answers where the proxy is killed and asked again", "%", 100.0),
        Figure("proxy_killed.longest_gap_s", "longest wait for a new token then, p50", "ms", 1e3),
        Figure("proxy_killed.made_again_share", "tokens made a second time then", "%", 100.0, drawn=True),
        Figure("proxy_killed.wrong", "wrong tokens where the proxy is killed"),
        Figure("proxy_killed.repeated", "repeated tokens where the proxy is killed"),
        Figure("failed", "requests that failed without a kill"),
    ),
    measure=measure,
    rounds=3,
    sizes={"requests": REQUESTS, "paced": PACED, "crowded": CROWDED, "kill_clients": KILL_CLIENTS},
)
