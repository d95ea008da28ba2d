"""Many clients that never pause: each sends its next request as soon as its last answer has ended."""

from bench.scenario import COSTS, Bench, Figure, Round, Scenario
from bench.scenarios import saturate
from bench.servers import OURS

CLIENTS = 600
REQUESTS = 3000


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """Measure one load after a warm-up of one request per client."""
    clients, requests = bench.size(SCENARIO, "clients"), bench.size(SCENARIO, "requests")
    with bench.run_server(name, saturate.MODEL, settings={"max_queued": 2 * clients}) as server:
        bench.load(server, clients=clients, requests=clients, max_tokens=saturate.MAX_TOKENS)
        return bench.load(server, clients=clients, requests=requests, max_tokens=saturate.MAX_TOKENS)


SCENARIO = Scenario(
    name="crowd",
    about=f"{CLIENTS} clients that never pause: {REQUESTS:,} streams of {saturate.MAX_TOKENS} tokens, 64 slots",
    servers=(*OURS, "uvicorn"),
    figures=(
        Figure("requests_per_s", "requests per second", "/s", drawn=True),
        Figure("latency_s.p50", "latency, p50", "ms", 1e3),
        Figure("latency_s.p99", "latency, p99", "ms", 1e3, drawn=True),
        Figure("ttft_s.p50", "time to first token, p50", "ms", 1e3),
        Figure("token_gap_s.p99", "gap between tokens, p99", "ms", 1e3),
        *COSTS,
    ),
    measure=measure,
    sizes={"clients": CLIENTS, "requests": REQUESTS},
)
