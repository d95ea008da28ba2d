"""What it costs that Redis has everything on the disk before it answers, beside syncing its file once a second."""

from bench.contestants import CLUSTER, EVERYSEC
from bench.scenario import COSTS, Bench, Figure, Round, Scenario
from bench.scenarios import idle, saturate


def measure(bench: Bench, name: str, before: list[Round]) -> Round:
    """Under load, where one sync serves many; and with one client, who waits for each."""
    alone = idle.measure(bench, name, before)
    return {**saturate.measure(bench, name, before), "idle": alone}


SCENARIO = Scenario(
    name="durability",
    about="a gateway and a worker over Redis, as in `saturate` and in `idle`, by when its file is synced",
    contestants=(CLUSTER, EVERYSEC),
    figures=(
        Figure("requests_per_s", "requests per second", "/s", drawn=True),
        Figure("latency_s.p99", "latency, p99", "ms", 1e3, drawn=True),
        Figure("idle.added_ttft_s.p50", "idle: time to first token added, p50", "ms", 1e3, drawn=True),
        Figure("idle.added_ttft_s.p99", "idle: time to first token added, p99", "ms", 1e3),
        Figure("idle.added_latency_s.p50", "idle: latency added, p50", "ms", 1e3),
        *COSTS,
    ),
    measure=measure,
)
