"""How fast a node serves: a real server process on one core, a load client on another, every token checked.

    python bench/serving.py --quick
    python bench/serving.py --over redis --fsync always --fsync everysec

- saturate: as many requests as it can take, from a backend that takes no time: what the platform itself costs.
- paced: many streams at once from a backend with a step of 20 ms: whether clients see that pace.

`--over redis` puts a gateway and a worker into processes of their own, with a Redis between them that writes every
change to its file, and syncs that as `--fsync` says; nothing is pinned to a core then.

It reports and judges nothing. Other work on the machine shows in the figure "waited for other processes".
"""

import argparse
import contextlib
import functools
import importlib.metadata
import os
import platform
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import httpx
import msgspec
import psutil

from llmactors.testing.redis_server import RedisServer

ROOT = Path(__file__).resolve().parent.parent
START_S = 30.0
STEP_MS = 20


@attrs.frozen
class Scenario:
    """What is served, and what is asked of it."""

    name: str
    model: str
    clients: int
    requests: int
    max_tokens: int
    limit_s: float
    headlines: tuple[tuple[str, str, float], ...]
    """The figures to compare over rounds: a path in the load client's result, a unit, and what to multiply with."""


SERVER_FIGURES = (
    ("failed", "", 1.0),
    ("server cpu_ms_per_request", "ms", 1.0),
    ("server cpu_us_per_token", "us", 1.0),
    ("server resident_bytes", "MiB", 2.0**-20),
    ("server waited", "%", 100.0),
    ("client busy", "%", 100.0),
    ("gateway cpu_us_per_token", "us", 1.0),
    ("worker cpu_us_per_token", "us", 1.0),
    ("redis cpu_us_per_token", "us", 1.0),
)
SATURATE_FIGURES = (
    ("requests_per_s", "/s", 1.0),
    ("tokens_per_s", "/s", 1.0),
    ("latency_s p50", "ms", 1e3),
    ("latency_s p99", "ms", 1e3),
    ("ttft_s p50", "ms", 1e3),
    ("tokens_per_chunk mean", "", 1.0),
    *SERVER_FIGURES,
)
PACED_FIGURES = (
    ("tokens_per_s", "/s", 1.0),
    ("token_gap_s p50", "ms", 1e3),
    ("token_gap_s p95", "ms", 1e3),
    ("token_gap_s p99", "ms", 1e3),
    ("token_gap_s max", "ms", 1e3),
    ("steady_gap_s p99", "ms", 1e3),
    ("ttft_s p50", "ms", 1e3),
    ("ttft_s p99", "ms", 1e3),
    ("tokens_per_chunk mean", "", 1.0),
    *SERVER_FIGURES,
)


@contextlib.contextmanager
def server(model: str, core: int | None) -> Iterator[tuple[str, int]]:
    """A node of its own process: its URL and its pid. It is gone afterwards, whatever happens."""
    settings = ("LLMACTORS_", "GATEWAY_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    command = [sys.executable, "-m", "llmactors", "--model", model, "--bind", "127.0.0.1:0", "--log-level", "error"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        line = process.stdout.readline() if ready else ""
        if "http://" not in line:
            raise RuntimeError(f"the server did not start within {START_S:g} s")
        yield line.split()[-1], process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def cluster(model: str, fsync: str) -> Iterator[tuple[str, dict[str, int]]]:
    """A Redis, a worker and a gateway: the gateway's URL, and all pids."""
    settings = ("LLMACTORS_", "GATEWAY_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer(appendfsync=fsync))
        start = functools.partial(role, redis=redis.url, environ=environment)
        worker, _ = stack.enter_context(start("worker", "--model", model, "--metrics-bind", ""))
        gateway, url = stack.enter_context(start("gateway", "--bind", "127.0.0.1:0"))
        assert redis.process is not None
        wait_ready(url)
        yield url, {"gateway": gateway, "worker": worker, "redis": redis.process.pid}


@contextlib.contextmanager
def role(name: str, *arguments: str, redis: str, environ: dict[str, str]) -> Iterator[tuple[int, str]]:
    """One process of a cluster: its pid, and the last word of what it says when it is ready."""
    command = [sys.executable, "-m", "llmactors", name, "--redis", redis, "--name", name, "--log-level", "error"]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True, env=environ)
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        line = process.stdout.readline() if ready else ""
        if not line:
            raise RuntimeError(f"the {name} did not start within {START_S:g} s")
        yield process.pid, line.split()[-1]
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def wait_ready(url: str) -> None:
    """Until the gateway knows of the worker."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz").is_success:
                return
        time.sleep(0.05)
    raise RuntimeError("the gateway did not become ready")


def cpu_s(pid: int) -> float:
    """What a process has computed so far."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def load(scenario: Scenario, url: str, pid: int | None, core: int | None) -> dict[str, Any]:
    """One run of the load client, in a process of its own."""
    options: dict[str, object] = {
        "--clients": scenario.clients,
        "--requests": scenario.requests,
        "--max-tokens": scenario.max_tokens,
        "--limit-s": scenario.limit_s,
        "--warmup": scenario.clients,
        "--core": core,
        "--server-pid": pid,
    }
    command = [sys.executable, "-m", "llmactors", "load", url, "--check", "mock", "--json", "-"]
    for name, value in options.items():
        if value is not None:
            command += [name, str(value)]
    # It exits with 1 where answers failed: that is a figure here, and in the table that it has printed.
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False, timeout=2 * scenario.limit_s + 30)
    if not done.stdout:
        raise RuntimeError("the load client did not run")
    result: dict[str, Any] = msgspec.json.decode(done.stdout)
    return result


def run_round(scenario: Scenario, url: str | None, fsync: str | None, cores: Sequence[int | None]) -> dict[str, Any]:
    """One round against a fresh server, a fresh cluster, or the node at `url`."""
    if url is not None:
        return load(scenario, url, None, None)
    if fsync is not None:
        with cluster(scenario.model, fsync) as (own_url, pids):
            before = {name: cpu_s(pid) for name, pid in pids.items()}
            result = load(scenario, own_url, pids["gateway"], None)
            # The warm-up is in it: as many requests again as there are clients.
            tokens = (scenario.requests + scenario.clients) * scenario.max_tokens
            for name, pid in pids.items():
                result[f"{name} cpu_us_per_token"] = (cpu_s(pid) - before[name]) / tokens * 1e6
            return result
    with server(scenario.model, cores[0]) as (own_url, pid):
        return load(scenario, own_url, pid, cores[1])


def figure(result: dict[str, Any], path: str) -> float | None:
    """One number of a result; None where it has none."""
    if path in result:
        return result[path]  # type: ignore[no-any-return]
    value: Any = result
    for key in path.split():
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int | float) else None


def summary(scenario: Scenario, results: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Median and range of each figure."""
    figures: dict[str, dict[str, float]] = {}
    for path, _, scale in scenario.headlines:
        values = [value * scale for result in results if (value := figure(result, path)) is not None]
        if values:
            figures[path] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return figures


def print_summary(name: str, scenario: Scenario, figures: dict[str, dict[str, float]], rounds: int) -> None:
    print(f"\n{name}: median and range of {rounds} {'round' if rounds == 1 else 'rounds'}")
    units = {path: unit for path, unit, _ in scenario.headlines}
    for path, values in figures.items():
        label = path.replace("_s ", " ").replace("_", " ").removesuffix(" per s")
        if path == "server waited":
            label = "server waited for other processes"
        print(
            f"  {label:36}{values['median']:12,.1f} {units[path]:4}({values['min']:,.1f} to {values['max']:,.1f})",
        )


def machine() -> dict[str, Any]:
    """What figures depend on besides the code."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), model)
    packages = ("llmactors", "trio", "hypercorn", "h11", "msgspec")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python_loop_ns": round(python_loop_ns(), 1),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def python_loop_ns() -> float:
    """What one turn of an empty loop costs here and now: a yardstick between machines, and for a busy one."""
    turns = 1_000_000
    begun = time.process_time()
    for _ in range(turns):
        pass
    return (time.process_time() - begun) * 1e9 / turns


def main() -> None:
    given = arguments()
    # The load client's tables go to stderr: keep the order.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    cores: list[int | None] = [None, None]
    available = sorted(os.sched_getaffinity(0))
    if len(available) > 1:
        cores = [available[0], available[-1]]
    report: dict[str, Any] = {"machine": machine(), "scenarios": {}}
    print(", ".join(f"{name} {value}" for name, value in report["machine"].items()))
    print("One core only: the load client takes time from the server." if cores[0] is None else f"Cores: {cores}.")
    ways = (given.fsync or ["always"]) if given.over == "redis" else [None]
    for scenario in scenarios(given):
        results: dict[str | None, list[dict[str, Any]]] = {fsync: [] for fsync in ways}
        for number in range(1, given.rounds + 1):
            for fsync in ways:  # in turns, so that a busy moment of the machine hits all of them
                where = f"redis, appendfsync {fsync}" if fsync else given.url or "one process"
                print(f"\n{scenario.name}, round {number} of {given.rounds}, {scenario.model} over {where}", flush=True)
                results[fsync].append(run_round(scenario, given.url, fsync, cores))
        for fsync in ways:
            name = scenario.name if fsync is None else f"{scenario.name}, appendfsync {fsync}"
            figures = summary(scenario, results[fsync])
            print_summary(name, scenario, figures, given.rounds)
            report["scenarios"][name] = {"summary": figures, "rounds": results[fsync]}
    if given.out is not None:
        given.out.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))


def scenarios(given: argparse.Namespace) -> list[Scenario]:
    """What to run."""
    seconds = 5 if given.quick else 10
    saturate = Scenario(
        name="saturate",
        model="mock:step_ms=0,slots=64",
        clients=given.concurrency,
        requests=given.requests or (300 if given.quick else 600),
        max_tokens=given.max_tokens,
        limit_s=15 if given.quick else 60,
        headlines=SATURATE_FIGURES,
    )
    paced = Scenario(
        name="paced",
        model=f"mock:step_ms={STEP_MS},slots={max(256, given.streams)}",
        clients=given.streams,
        requests=given.streams,
        max_tokens=seconds * 1000 // STEP_MS,
        limit_s=6.0 * seconds,
        headlines=PACED_FIGURES,
    )
    return [scenario for scenario in (saturate, paced) if given.scenario in {scenario.name, "both"}]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure how fast a node serves.")
    parser.add_argument("--scenario", choices=("saturate", "paced", "both"), default="both")
    parser.add_argument("--quick", action="store_true", help="one shorter round: less than a minute")
    parser.add_argument("--rounds", type=int, help="each with a fresh server [3; 1 with --quick]")
    parser.add_argument("--requests", type=int, help="of saturate [600; 300 with --quick]")
    parser.add_argument("--concurrency", type=int, default=60, help="of saturate: clients at a time [60]")
    parser.add_argument("--max-tokens", type=int, default=64, help="of saturate: tokens per answer [64]")
    parser.add_argument("--streams", type=int, default=200, help="of paced: streams at once [200]")
    parser.add_argument("--url", help="measure this node, which serves a mock, instead of a fresh one")
    parser.add_argument("--over", choices=("memory", "redis"), default="memory", help="where the ledger is [memory]")
    parser.add_argument("--fsync", action="append", choices=("always", "everysec"), help="of Redis [always]")
    parser.add_argument("--out", type=Path, help="write everything to this file, as JSON")
    given = parser.parse_args()
    if given.rounds is None:
        given.rounds = 1 if given.quick else 3
    if min(given.rounds, given.concurrency, given.max_tokens, given.streams) < 1:
        parser.error("counts begin at 1")
    return given


if __name__ == "__main__":
    main()
