"""A real model: what llmactors costs between a client and llama.cpp's own server, at 1, 4, 8 and 16 streams.

Both servers run the same llama.cpp with the same slots, context and threads. Both are up at the same time and are asked
by turns, so that only one of them works at a time: `bench/model_comparison.py` says how, and why.
"""

import functools
import random

import trio

from bench.completions import MODEL as NAME
from bench.completions import Endpoint
from bench.model_comparison import first_token, speed
from bench.scenario import Bench, Curve, Figure, Round, Scenario
from bench.servers import LLAMA, OURS
from llmactors.backends.models.download import ensure_model

MODEL = "smollm2-135m"
STREAMS = (1, 4, 8, 16)
SPEED_ROUNDS = {1: 16, 4: 6, 8: 4, 16: 4}
"""By streams: a round of few streams measures few tokens, and more rounds make up for that."""
MAX_TOKENS = 48
QUESTION_ROUNDS = 4
QUESTIONS = 24
"""In each round."""
LIMIT_S = 1800.0
SLOTS = max(STREAMS)
CONTEXT = 512


def measure(bench: Bench, name: str, before: list[Round]) -> Round:
    """Measure llama.cpp's own server and the server `name` by turns, from few streams to many."""
    path = str(ensure_model(MODEL).path)
    rng = random.Random(len(before))
    with (
        bench.run_server(LLAMA, path, settings={"slots": SLOTS, "context_tokens": CONTEXT}) as direct,
        bench.run_server(name, f"{NAME}={path}", settings={"slots": SLOTS, "context": CONTEXT}) as ours,
    ):
        return trio.run(functools.partial(_measure_in_time, Endpoint.of(direct), Endpoint.of(ours), rng))


async def _measure_in_time(direct: Endpoint, ours: Endpoint, rng: random.Random) -> Round:
    with trio.move_on_after(LIMIT_S):
        return await _measure(direct, ours, rng)
    raise RuntimeError(f"the measurement took longer than {LIMIT_S:g} s")


async def _measure(direct: Endpoint, ours: Endpoint, rng: random.Random) -> Round:
    found: Round = {"failed": 0, "examples": []}
    for streams in STREAMS:
        fast = await speed(direct, ours, streams, rounds=SPEED_ROUNDS[streams], max_tokens=MAX_TOKENS, rng=rng)
        first = await first_token(direct, ours, streams, rounds=QUESTION_ROUNDS, questions=QUESTIONS, rng=rng)
        if not fast.same_texts:
            found["failed"] += 1
            found["examples"].append("the text differs from that of llama.cpp's own server")
        for figure, value in {
            "tokens_per_s": fast.ours,
            "direct_tokens_per_s": fast.direct,
            "tokens_ratio": fast.ratio,
            "ttft_s": first.ours_s,
            "direct_ttft_s": first.direct_s,
            "added_ttft_s": first.added_s,
            "added_ttft_least_s": first.interval_s[0],
            "added_ttft_most_s": first.interval_s[1],
        }.items():
            found.setdefault(figure, {})[str(streams)] = value
    found["speeds"] = [(streams, found["tokens_per_s"][str(streams)]) for streams in STREAMS]
    return found


def _each(path: str, title: str, unit: str, scale: float = 1.0, *, drawn: bool = False) -> tuple[Figure, ...]:
    """One figure for each number of streams."""
    return tuple(
        Figure(f"{path}.{streams}", f"{title}, {streams} {'stream' if streams == 1 else 'streams'}", unit, scale, drawn)
        for streams in STREAMS
    )


SCENARIO = Scenario(
    name="real",
    about="SmolLM2-135M on llama.cpp, asked through OpenAI's completions, by turns with llama.cpp's own server",
    servers=OURS,
    figures=(
        *_each("tokens_per_s", "tokens per second", "/s"),
        *_each("direct_tokens_per_s", "tokens per second of llama.cpp's own server", "/s"),
        *_each("tokens_ratio", "tokens per second, of those of llama.cpp's own server", "%", 100.0),
        *_each("ttft_s", "time to first token, p50", "ms", 1e3),
        *_each("direct_ttft_s", "time to first token of llama.cpp's own server, p50", "ms", 1e3),
        *_each("added_ttft_s", "time to first token added, p50", "ms", 1e3, drawn=True),
        *_each("added_ttft_least_s", "time to first token added, lower end of the 95 % interval", "ms", 1e3),
        *_each("added_ttft_most_s", "time to first token added, upper end of the 95 % interval", "ms", 1e3),
        Figure("failed", "texts that differ"),
    ),
    measure=measure,
    rounds=1,
    curve=Curve("speeds", "streams at once", "tokens per second"),
)
