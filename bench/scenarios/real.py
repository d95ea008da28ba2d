"""A real model: what lies between a client and llama.cpp's own server costs, at 1, 4, 8 and 16 streams.

Both run the same llama.cpp with the same slots, context and threads, at the same time, and are asked by turns, so that
one of them works at a time: `bench/by_turns.py` says how, and why so.
"""

import functools
import random

import trio

from bench.by_turns import MODEL as NAME
from bench.by_turns import Target, first_token, speed
from bench.contestants import LLAMA, OURS
from bench.scenario import Bench, Curve, Figure, Round, Scenario
from llmactors.backends.models.download import ensure_model

MODEL = "smollm2-135m"
STREAMS = (1, 4, 8, 16)
SPEED_ROUNDS = {1: 16, 4: 6, 8: 4, 16: 4}
"""More where fewer answers are summed up."""
MAX_TOKENS = 48
TURNS = 4
QUESTIONS = 24
LIMIT_S = 1800.0
SLOTS = max(STREAMS)
CONTEXT = 512


def measure(bench: Bench, name: str, before: list[Round]) -> Round:
    """llama.cpp alone and the contestant by turns, from few streams to many."""
    path = str(ensure_model(MODEL).path)
    rng = random.Random(len(before))
    with (
        bench.serving(LLAMA, path, settings={"slots": SLOTS, "context_tokens": CONTEXT}) as alone,
        bench.serving(name, f"{NAME}={path}", settings={"slots": SLOTS, "context": CONTEXT}) as serving,
    ):
        return trio.run(functools.partial(_measure_in_time, Target.of(alone), Target.of(serving), rng))


async def _measure_in_time(direct: Target, ours: Target, rng: random.Random) -> Round:
    with trio.move_on_after(LIMIT_S):
        return await _measure(direct, ours, rng)
    raise RuntimeError(f"it took longer than {LIMIT_S:g} s")


async def _measure(direct: Target, ours: Target, rng: random.Random) -> Round:
    found: Round = {"failed": 0, "examples": []}
    for streams in STREAMS:
        fast = await speed(direct, ours, streams, rounds=SPEED_ROUNDS[streams], max_tokens=MAX_TOKENS, rng=rng)
        first = await first_token(direct, ours, streams, turns=TURNS, questions=QUESTIONS, rng=rng)
        if not fast.same_texts:
            found["failed"] += 1
            found["examples"].append("another text than llama.cpp's own server gives")
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
    return tuple(
        Figure(f"{path}.{streams}", f"{title}, {streams} {'stream' if streams == 1 else 'streams'}", unit, scale, drawn)
        for streams in STREAMS
    )


SCENARIO = Scenario(
    name="real",
    about="SmolLM2-135M on llama.cpp, asked through OpenAI's completions, by turns with llama.cpp's own server",
    contestants=OURS,
    figures=(
        *_each("tokens_per_s", "tokens per second", "/s"),
        *_each("direct_tokens_per_s", "llama.cpp's own tokens per second", "/s"),
        *_each("tokens_ratio", "of llama.cpp's own tokens per second", "%", 100.0),
        *_each("ttft_s", "time to first token, p50", "ms", 1e3),
        *_each("direct_ttft_s", "llama.cpp's own time to first token, p50", "ms", 1e3),
        *_each("added_ttft_s", "time to first token added, p50", "ms", 1e3, drawn=True),
        *_each("added_ttft_least_s", "that, with 95 % at least", "ms", 1e3),
        *_each("added_ttft_most_s", "that, with 95 % at most", "ms", 1e3),
        Figure("failed", "texts that differ"),
    ),
    measure=measure,
    rounds=1,
    curve=Curve("speeds", "streams at once", "tokens per second"),
)
