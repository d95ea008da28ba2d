"""How fast a node serves: a real server process on one core, a load client on another, every token checked.

    python bench/serving.py --quick

- saturate: as many requests as it can take, from a backend that takes no time: what the platform itself costs.
- paced: many streams at once from a backend with a step of 20 ms: whether clients see that pace.

It reports and judges nothing. Other work on the machine shows in the figure "waited for other processes".
"""

import argparse
import contextlib
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
import msgspec

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
    command = [sys.executable, "-m", "bench.load", url]
    for name, value in options.items():
        if value is not None:
            command += [name, str(value)]
    answer = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=2 * scenario.limit_s + 30
    ).stdout
    result: dict[str, Any] = msgspec.json.decode(answer)
    return result


def run_round(scenario: Scenario, url: str | None, cores: Sequence[int | None]) -> dict[str, Any]:
    """One round against a fresh server, or against the one at `url`."""
    if url is not None:
        return load(scenario, url, None, None)
    with server(scenario.model, cores[0]) as (own_url, pid):
        return load(scenario, own_url, pid, cores[1])


def figure(result: dict[str, Any], path: str) -> float | None:
    """One number of a result; None where it has none."""
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


def print_summary(scenario: Scenario, figures: dict[str, dict[str, float]], rounds: int) -> None:
    print(f"\n{scenario.name}: median and range of {rounds} {'round' if rounds == 1 else 'rounds'}")
    units = {path: unit for path, unit, _ in scenario.headlines}
    for path, values in figures.items():
        name = path.replace("_s ", " ").replace("_", " ").removesuffix(" per s")
        if path == "server waited":
            name = "server waited for other processes"
        print(
            f"  {name:36}{values['median']:12,.1f} {units[path]:4}({values['min']:,.1f} to {values['max']:,.1f})",
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
    for scenario in scenarios(given):
        results = []
        for number in range(1, given.rounds + 1):
            print(f"\n{scenario.name}, round {number} of {given.rounds}, on {given.url or scenario.model}", flush=True)
            results.append(run_round(scenario, given.url, cores))
        figures = summary(scenario, results)
        print_summary(scenario, figures, given.rounds)
        report["scenarios"][scenario.name] = {"summary": figures, "rounds": results}
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
    parser.add_argument("--out", type=Path, help="write everything to this file, as JSON")
    given = parser.parse_args()
    if given.rounds is None:
        given.rounds = 1 if given.quick else 3
    if min(given.rounds, given.concurrency, given.max_tokens, given.streams) < 1:
        parser.error("counts begin at 1")
    return given


if __name__ == "__main__":
    main()
