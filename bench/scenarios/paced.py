"""The number of streams that a server holds at the speed of the model.

A server holds N streams if every answer is right, all N streams run at one time (at some moment all have begun and none
has ended), and 99 of 100 gaps between tokens are at most 30 ms, where the model makes a step every 20 ms. A probe that
fails is repeated once, so that one slow moment of the machine does not decide. N is one of a ladder of numbers, each
about a fifth larger than the one before.
"""

from collections.abc import Callable

from bench.scenario import COSTS, Bench, Curve, Figure, Round, Scenario
from bench.servers import MOCKS

STEP_MS = 20
GAP_MS = 30.0
MAX_TOKENS = 100
TRIES = 2
"""Probes of one number of streams, before that number counts as not held."""
LADDER = tuple(round(10 * 2 ** (rung / 4)) for rung in range(31))
"""From 10 to 1,810 streams."""
START = 14
"""The rung at which the first search begins: 113 streams."""
STRIDE = 4
"""The rungs between two probes at the beginning of the first search."""


def measure(bench: Bench, name: str, before: list[Round]) -> Round:
    """Search for the largest number of streams, starting with the result of the previous round."""
    with bench.run_server(name, f"mock:step_ms={STEP_MS},slots={LADDER[-1]}") as server:
        bench.load(server, clients=10, requests=10, max_tokens=10)
        probes: dict[int, Round] = {}

        def holds(rung: int) -> bool:
            streams = LADDER[rung]
            for _ in range(TRIES):
                found = bench.load(server, clients=streams, requests=streams, max_tokens=MAX_TOKENS, limit_s=30)
                probes[rung] = found
                if is_held(found, streams):
                    return True
            return False

        rung = search(holds, start=before[-1]["rung"] if before else START, stride=1 if before else STRIDE)
    best = probes.get(max(0, rung), {})
    gaps = [(LADDER[at], found["token_gap_s"]["p99"] * 1e3) for at, found in sorted(probes.items()) if found["tokens"]]
    return {**best, "rung": max(0, rung), "streams_held": LADDER[rung] if rung >= 0 else 0, "p99_gaps_ms": gaps}


def is_held(found: Round, streams: int) -> bool:
    """Whether a probe with `streams` streams fulfils the rule above."""
    together = bool(found["steady_gap_s"])
    return found["correct"] == streams and together and found["token_gap_s"]["p99"] * 1e3 <= GAP_MS


def search(holds: Callable[[int], bool], *, start: int, stride: int, rungs: int = len(LADDER)) -> int:
    """The highest rung for which `holds` is true, or -1 if there is none. All rungs below that must hold too.

    The search moves by `stride` rungs from `start` until it has a lower and an upper bound, and then bisects.
    """
    low, high, at = -1, rungs, start
    while high - low > 1:
        if holds(at):
            low = at
            at = min(at + stride, rungs - 1) if high == rungs else (low + high) // 2
        else:
            high = at
            at = max(at - stride, 0) if low == -1 else (low + high) // 2
    return low


SCENARIO = Scenario(
    name="paced",
    about=f"most streams at once with p99 gaps up to {GAP_MS:g} ms, from a model that steps every {STEP_MS} ms",
    servers=MOCKS,
    figures=(
        Figure("streams_held", "streams held", drawn=True),
        Figure("token_gap_s.p50", "gap between tokens, p50", "ms", 1e3),
        Figure("token_gap_s.p99", "gap between tokens, p99", "ms", 1e3),
        Figure("token_gap_s.max", "gap between tokens, largest", "ms", 1e3),
        Figure("ttft_s.p50", "time to first token, p50", "ms", 1e3),
        Figure("ttft_s.p99", "time to first token, p99", "ms", 1e3),
        Figure("tokens_per_chunk.mean", "tokens per chunk"),
        *COSTS,
    ),
    measure=measure,
    curve=Curve("p99_gaps_ms", "streams at once", "gap between tokens, p99, ms", limit=GAP_MS),
)
