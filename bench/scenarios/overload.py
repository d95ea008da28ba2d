"""Three times as many requests as the server can serve, at times that do not depend on the answers.

The capacity is measured first, in a closed loop, on the same server. The main figures are the share of the capacity
that still becomes complete answers, how soon a request is refused, and whether the server recovers afterwards.
llmactors and mosec bound their queues, here to 128 requests; the other servers accept every request.
"""

import statistics

from bench.scenario import Bench, Figure, Round, Scenario
from bench.servers import OURS

STEP_MS = 5
SLOTS = 32
MAX_TOKENS = 32
MAX_QUEUED = 128
FACTOR = 3
SECONDS = 6
SETTLE_S = 8
REFUSALS = ("http_429", "http_503", "http_529")
UNANSWERED = "broken_off"


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """Measure the capacity, then the overload, then the recovery."""
    model = f"mock:step_ms={STEP_MS},slots={SLOTS}"
    closed = {"clients": 2 * SLOTS, "requests": 12 * SLOTS, "max_tokens": MAX_TOKENS}
    with bench.run_server(name, model, settings={"max_queued": MAX_QUEUED}) as server:
        bench.load(server, clients=SLOTS, requests=SLOTS, max_tokens=MAX_TOKENS)
        before = bench.load(server, **closed)
        offered = FACTOR * before["requests_per_s"]
        found = bench.load(
            server,
            clients=8000,
            requests=1_000_000,
            max_tokens=MAX_TOKENS,
            rate=offered,
            seconds=SECONDS,
            limit_s=SECONDS + SETTLE_S,
        )
        after = bench.load(server, **closed)
    errors = found["errors"]
    # The first second fills the queue, and the end of the load cuts the last second.
    served = [second["correct"] for second in found["timeline"] if 1 <= second["second"] < SECONDS]
    goodput = sum(served) / (SECONDS - 1)
    refused = sum(errors.get(kind, 0) for kind in REFUSALS)
    unanswered = errors.get(UNANSWERED, 0)
    return found | {
        "capacity_per_s": before["requests_per_s"],
        "offered_per_s": offered,
        "goodput_per_s": goodput,
        "goodput_share": goodput / before["requests_per_s"],
        "worst_second_share": min(served, default=0) / max(1.0, statistics.median(served or [0])),
        "refused": refused,
        "unanswered": unanswered,
        "recovered_share": after["requests_per_s"] / before["requests_per_s"],
        "ttft_after_s": after["ttft_s"],
        "failed": found["failed"] - refused - unanswered + before["failed"] + after["failed"],
    }


SCENARIO = Scenario(
    name="overload",
    about=f"{FACTOR} times the capacity for {SECONDS} s: {SLOTS} slots, {STEP_MS} ms a step, {MAX_TOKENS} tokens",
    servers=(*OURS, "origin", "litserve", "mosec"),
    figures=(
        Figure("capacity_per_s", "capacity, requests per second", "/s"),
        Figure("offered_per_s", "offered requests per second", "/s"),
        Figure("goodput_per_s", "complete answers per second", "/s"),
        Figure("goodput_share", "complete answers, of the capacity", "%", 100.0, drawn=True),
        Figure("worst_second_share", "complete answers in the worst second, of the median", "%", 100.0),
        Figure("refused", "requests refused"),
        Figure("refusal_s.p50", "time to refuse, p50", "ms", 1e3),
        Figure("refusal_s.p99", "time to refuse, p99", "ms", 1e3, drawn=True),
        Figure("open_loop.late_s.p99", "delay of the load client itself, p99", "ms", 1e3),
        Figure("unanswered", f"requests without an answer after {SECONDS + SETTLE_S} s", drawn=True),
        Figure("latency_s.p50", "latency of the answers, p50", "ms", 1e3),
        Figure("latency_s.p99", "latency of the answers, p99", "ms", 1e3),
        Figure("recovered_share", "capacity right after, of that before", "%", 100.0, drawn=True),
        Figure("ttft_after_s.p99", "time to first token right after, p99", "ms", 1e3),
        Figure("failed", "requests that failed otherwise"),
        Figure("waited", "server threads waited for a core", "%", 100.0),
    ),
    measure=measure,
    rounds=1,
)
