"""The cost of `appendfsync always`, where Redis syncs its file to the disk before each reply, beside `everysec`."""

from bench.scenario import COSTS, Bench, Figure, Round, Scenario
from bench.scenarios import idle, saturate
from bench.servers import CLUSTER, EVERYSEC


def measure(bench: Bench, name: str, before: list[Round]) -> Round:
    """Measure under load, where many requests share one sync, and with one client, which waits for every sync."""
    alone = idle.measure(bench, name, before)
    return {**saturate.measure(bench, name, before), "idle": alone}


SCENARIO = Scenario(
    name="durability",
    about="a gateway and a worker over Redis as in `saturate` and `idle`, by how often Redis syncs its file",
    servers=(CLUSTER, EVERYSEC),
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
