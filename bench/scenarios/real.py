"""A real model: what lies between a client and llama.cpp's own server costs, at 1, 4, 8 and 16 streams.

All run the same llama.cpp with the same slots, context and threads, and the same clients ask each of them for OpenAI's
completions of the same prompts with the same seeds, each on a connection of its own: llama.cpp's server closes
connections that it said it would keep. Neither reads a prompt from its cache, as ours never does for a request with a
seed (`LlamaSettings.reproducible`): these prompts begin alike, so that one side would read half of what the other does.
"""

import functools
from typing import Any

from bench.contestants import LLAMA, OURS
from bench.scenario import Bench, Curve, Figure, Round, Scenario
from llmactors.backends.models.download import ensure_model

MODEL = "smollm2-135m"
STREAMS = (1, 4, 8, 16)
REQUESTS = {1: 4, 4: 8, 8: 16, 16: 16}
MAX_TOKENS = 48
SLOTS = max(STREAMS)
CONTEXT = 512


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """All on one server, from few streams to many."""
    found: Round = {"failed": 0, "examples": [], "tokens_per_s": {}, "ttft_s": {}, "token_gap_s": {}}
    settings: dict[str, Any]
    if name == LLAMA:
        model, settings = str(ensure_model(MODEL).path), {"slots": SLOTS, "context_tokens": CONTEXT}
    else:
        model, settings = MODEL, {"slots": SLOTS, "context": CONTEXT}
    with bench.serving(name, model, settings=settings) as serving:
        ask = functools.partial(
            bench.load, serving, max_tokens=MAX_TOKENS, api="completions", check="shape", new_connections=True
        )
        ask(clients=SLOTS, requests=SLOTS)
        for streams in STREAMS:
            load = ask(clients=streams, requests=REQUESTS[streams], prompt=f"Here is story number {streams}:")
            found["failed"] += load["failed"]
            found["examples"] += load["examples"]
            found["tokens_per_s"][str(streams)] = load["tokens_per_s"]
            found["ttft_s"][str(streams)] = load["ttft_s"]
            found["token_gap_s"][str(streams)] = load["token_gap_s"]
    found["speeds"] = [(streams, found["tokens_per_s"][str(streams)]) for streams in STREAMS]
    return found


def _each(path: str, title: str, unit: str, scale: float = 1.0, *, drawn: bool = False) -> tuple[Figure, ...]:
    return tuple(
        Figure(
            path.format(streams), f"{title}, {streams} {'stream' if streams == 1 else 'streams'}", unit, scale, drawn
        )
        for streams in STREAMS
    )


SCENARIO = Scenario(
    name="real",
    about=f"SmolLM2-135M on llama.cpp, {MAX_TOKENS} tokens per answer, asked through OpenAI's completions",
    contestants=(*OURS, LLAMA),
    figures=(
        *_each("tokens_per_s.{}", "tokens per second", "/s"),
        *_each("ttft_s.{}.p50", "time to first token, p50", "ms", 1e3, drawn=True),
        *_each("token_gap_s.{}.p99", "gap between tokens, p99", "ms", 1e3),
        Figure("failed", "requests that failed"),
    ),
    measure=measure,
    rounds=2,
    curve=Curve("speeds", "streams at once", "tokens per second"),
)
