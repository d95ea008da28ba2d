"""The time that an idle server adds to that of the model: one client sends one request after the other."""

from bench.scenario import COSTS, Bench, Figure, Round, Scenario
from bench.servers import MOCKS

STEP_MS = 5
MODEL = f"mock:step_ms={STEP_MS},slots=1"
MAX_TOKENS = 8
REQUESTS = 100


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """Measure with a model of one slot, so that a server that batches does not wait for a second request."""
    with bench.run_server(name, MODEL) as server:
        bench.load(server, clients=1, requests=20, max_tokens=MAX_TOKENS)
        return with_added_times(bench.load(server, clients=1, requests=REQUESTS, max_tokens=MAX_TOKENS))


def with_added_times(found: Round) -> Round:
    """Add the times of `found` less the time that the model itself takes: `added_ttft_s` and `added_latency_s`."""
    for path, own_s in (("ttft_s", STEP_MS / 1e3), ("latency_s", STEP_MS / 1e3 * MAX_TOKENS)):
        found[f"added_{path}"] = {share: found[path][share] - own_s for share in ("p50", "p99", "max")}
    return found


SCENARIO = Scenario(
    name="idle",
    about=f"time added for one client to a step of {STEP_MS} ms, over {REQUESTS} answers of {MAX_TOKENS} tokens",
    servers=MOCKS,
    figures=(
        Figure("added_ttft_s.p50", "time to first token added, p50", "ms", 1e3, drawn=True),
        Figure("added_ttft_s.p99", "time to first token added, p99", "ms", 1e3, drawn=True),
        Figure("added_latency_s.p50", "latency added, p50", "ms", 1e3),
        Figure("added_latency_s.p99", "latency added, p99", "ms", 1e3),
        *COSTS,
    ),
    measure=measure,
)
