"""What the window of static batches brings: one server without a window and one with a window of 20 ms, by turns."""

import statistics
from typing import Any

from bench import turns
from bench.scenario import Bench, Figure, Round, Scenario
from bench.servers import ALONE, run_server

STEP_MS = 5
SLOTS = 16
MAX_TOKENS = 20
MODEL = f"mock:batching=static,step_ms={STEP_MS},slots={SLOTS}"
WINDOWS_S = (0.0, 0.02)
PAIRS = 4
LOADS: dict[str, dict[str, Any]] = {
    # Each client waits for its answer, so all come back when a batch ends, and the next batch can have all of them.
    "closed": {"clients": SLOTS, "requests": 20 * SLOTS},
    # Half of what the backend can serve with full batches arrives, at random moments.
    "open": {"clients": 10 * SLOTS, "rate": 80.0, "seconds": 5.0, "requests": 1000},
    # Nobody else comes: the window is lost.
    "alone": {"clients": 1, "requests": 20},
}
FIGURES = ("requests_per_s", "latency_s.p50", "latency_s.p99", "ttft_s.p50")


def measure(bench: Bench, _: str, __: list[Round]) -> Round:
    """Measure each load on both servers by turns, and report the medians of both and of the pairs' ratios."""
    found: dict[str, list[list[Round]]] = {load: [[], []] for load in LOADS}
    with (
        run_server(ALONE, MODEL, settings={"batch_window_s": WINDOWS_S[0]}) as without,
        run_server(ALONE, MODEL, settings={"batch_window_s": WINDOWS_S[1]}) as with_window,
    ):
        servers = (without, with_window)
        for server in servers:
            bench.load(server, clients=SLOTS, requests=SLOTS, max_tokens=MAX_TOKENS)
        for pair in range(1 if bench.quick else PAIRS):
            for load, options in LOADS.items():
                for place in turns.order(pair):
                    found[load][place].append(bench.load(servers[place], max_tokens=MAX_TOKENS, **options))
    result: Round = {load: compared(*rounds) for load, rounds in found.items()}
    result["failed"] = sum(round_["failed"] for rounds in found.values() for each in rounds for round_ in each)
    return result


def compared(without: list[Round], with_window: list[Round]) -> dict[str, dict[str, float]]:
    """By figure: the median without a window and with it, and the median of the pairs' ratios, with to without."""
    result: dict[str, dict[str, float]] = {}
    for path in FIGURES:
        figure = Figure(path, path)
        pairs = [
            (before, after)
            for first, second in zip(without, with_window, strict=True)
            if (before := figure.of(first)) and (after := figure.of(second))
        ]
        if pairs:
            result[path.replace(".", "_")] = {
                "without": statistics.median(before for before, _ in pairs),
                "with": statistics.median(after for _, after in pairs),
                "ratio": statistics.median(after / before for before, after in pairs),
            }
    return result


def _figures() -> tuple[Figure, ...]:
    titles = {
        "closed": f"{SLOTS} clients in a closed loop",
        "open": f"{LOADS['open']['rate']:g} arrivals/s",
        "alone": "1 client",
    }
    units = {"requests_per_s": ("requests/s", "/s", 1.0), "latency_s_p50": ("latency p50", "ms", 1e3)}
    units["latency_s_p99"] = ("latency p99", "ms", 1e3)
    figures: list[Figure] = []
    for load, title in titles.items():
        for path, (name, unit, scale) in units.items():
            figures.append(Figure(f"{load}.{path}.without", f"{title}: {name}, no window", unit, scale))
            figures.append(Figure(f"{load}.{path}.with", f"{title}: {name}, window of 20 ms", unit, scale))
            figures.append(Figure(f"{load}.{path}.ratio", f"{title}: {name}, ratio", "x", drawn=load == "closed"))
    return tuple(figures)


SCENARIO = Scenario(
    name="static",
    about=f"a static backend of {SLOTS} slots whose batch of {MAX_TOKENS} tokens takes {STEP_MS * MAX_TOKENS} ms, "
    "without a window for micro-batches and with one of 20 ms, by turns",
    servers=(ALONE,),
    figures=(*_figures(), Figure("failed", "requests that failed")),
    rounds=1,
    measure=measure,
)
