"""A fixed number of streams at the speed of the model, in CPU time: a figure that survives a busy machine.

`paced` searches for the number of streams that a server holds, so each server is measured at a number of its own. Here
all servers have the same load.
"""

from bench.scenario import COSTS, Bench, Figure, Round, Scenario
from bench.servers import MOCKS

STREAMS = 100
STEP_MS = 20
SLOTS = 128
WARM_TOKENS = 20
MAX_TOKENS = 100


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """Measure one load after a short one of the same streams."""
    streams = bench.size(SCENARIO, "streams")
    with bench.run_server(name, f"mock:step_ms={STEP_MS},slots={max(SLOTS, streams)}") as server:
        bench.load(server, clients=streams, requests=streams, max_tokens=WARM_TOKENS)
        return bench.load(server, clients=streams, requests=streams, max_tokens=MAX_TOKENS)


SCENARIO = Scenario(
    name="steady",
    about=f"{STREAMS} streams of {MAX_TOKENS} tokens from a model that steps every {STEP_MS} ms",
    servers=MOCKS,
    figures=(
        *COSTS,
        Figure("token_gap_s.p50", "gap between tokens, p50", "ms", 1e3),
        Figure("token_gap_s.p99", "gap between tokens, p99", "ms", 1e3, drawn=True),
        Figure("ttft_s.p50", "time to first token, p50", "ms", 1e3),
        Figure("tokens_per_chunk.mean", "tokens per chunk"),
    ),
    measure=measure,
    sizes={"streams": STREAMS},
)
