"""As many requests as a server can serve with a model that takes no time: the cost of the server itself."""

from bench.scenario import COSTS, Bench, Figure, Round, Scenario
from bench.servers import MOCKS

CLIENTS = 60
REQUESTS = 600
MAX_TOKENS = 64
MODEL = "mock:step_ms=0,slots=64"


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """Measure one load after a warm-up of one request per client."""
    requests = REQUESTS // 2 if bench.quick else REQUESTS
    with bench.run_server(name, MODEL) as server:
        bench.load(server, clients=CLIENTS, requests=CLIENTS, max_tokens=MAX_TOKENS)
        return bench.load(server, clients=CLIENTS, requests=requests, max_tokens=MAX_TOKENS)


SCENARIO = Scenario(
    name="saturate",
    about=f"{REQUESTS} streams of {MAX_TOKENS} tokens, {CLIENTS} at a time, from a model that takes no time",
    servers=MOCKS,
    figures=(
        Figure("requests_per_s", "requests per second", "/s", drawn=True),
        Figure("tokens_per_s", "tokens per second", "/s"),
        Figure("latency_s.p50", "latency, p50", "ms", 1e3),
        Figure("latency_s.p99", "latency, p99", "ms", 1e3, drawn=True),
        Figure("ttft_s.p50", "time to first token, p50", "ms", 1e3),
        Figure("tokens_per_chunk.mean", "tokens per chunk"),
        *COSTS,
    ),
    measure=measure,
)
