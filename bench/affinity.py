"""What the turns of conversations gain from the worker that has their beginning in its cache.

    python -m bench.affinity               # 40 conversations of 6 turns, two workers of smollm2-135m: some minutes
    python -m bench.affinity --conversations 16 --together 4

Two clusters over Redis run at the same time, each with one gateway and two workers with llama.cpp: in one, requests
prefer the worker of their conversation (`affinity_wait_s` has its default), in the other they do not (0). Groups of
conversations talk with one cluster at a time, by turns. All conversations have the same system prompt, and each has
questions of its own. The tokens are drawn without a seed, because llama.cpp reads no greedy or seeded prompt from a
cache.

The figures are the share of the prompts' tokens that came from a cache, over the turns behind the first, and the time
to the first token.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import httpx
import trio

from llmactors.testing.cluster import Cluster, ClusterSettings

MODEL = "smollm2-135m"
SYSTEM = (
    "You are the guide of a small museum by the sea. You answer every question about ships, lighthouses, storms, maps "
    "and sailors in a few friendly words, you never make up a date, and you ask the visitor back what to show next."
)
THINGS = (
    "lighthouse",
    "schooner",
    "compass",
    "anchor",
    "sextant",
    "harbour",
    "lantern",
    "rope",
    "map",
    "whale",
    "storm",
)
QUESTION = "Please tell me more about the {thing} in room {room}: who made it, when was it used, and why is it here?"
ANSWER_TOKENS = 16
SETTINGS: Mapping[str, dict[str, object]] = {"with": {}, "without": {"affinity_wait_s": 0}}


@attrs.frozen
class Turn:
    """One answer."""

    number: int
    prompt_tokens: int
    cached_tokens: int
    ttft_s: float


async def ask(client: httpx.AsyncClient, messages: Sequence[dict[str, str]], number: int) -> tuple[Turn, str]:
    """One turn: its figures, and the text of the answer."""
    body = {
        "model": MODEL,
        "messages": messages,
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0.8,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    usage: dict[str, Any] = {}
    began, first, text = time.perf_counter(), 0.0, ""
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            data = line.removeprefix("data: ")
            if not data or data == "[DONE]":
                continue
            chunk = json.loads(data)
            if chunk["choices"]:
                first = first or time.perf_counter() - began
                text += chunk["choices"][0]["delta"].get("content") or ""
            usage = chunk.get("usage") or usage
    return Turn(number, usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"], first), text


async def talk(client: httpx.AsyncClient, seed: int, turns: int, found: list[Turn]) -> None:
    """One conversation."""
    rng = random.Random(seed)
    messages = [{"role": "system", "content": SYSTEM}]
    for number in range(turns):
        question = QUESTION.format(thing=rng.choice(THINGS), room=rng.randint(1, 999))
        messages.append({"role": "user", "content": question})
        turn, text = await ask(client, messages, number)
        found.append(turn)
        messages.append({"role": "assistant", "content": text or "…"})
        await trio.sleep(rng.random() * 0.1)  # so that the turns of a group do not stay in step


def report(name: str, found: Sequence[Turn]) -> str:
    """One line of figures."""
    later = [turn for turn in found if turn.number]
    share = sum(turn.cached_tokens for turn in later) / sum(turn.prompt_tokens for turn in later)
    waits = sorted(turn.ttft_s * 1000 for turn in later)
    p50, p95 = statistics.median(waits), waits[int(0.95 * len(waits))]
    tokens = sum(turn.prompt_tokens - turn.cached_tokens for turn in found)
    return f"{name:18} {share:7.1%} {p50:10.0f} {p95:10.0f} {tokens:12,}"


async def measure(conversations: int, turns: int, together: int) -> None:
    """Prints the figures of both clusters."""
    groups = [range(at, min(at + together, conversations)) for at in range(0, conversations, together)]
    found: dict[str, list[Turn]] = {name: [] for name in SETTINGS}
    settings = {
        name: ClusterSettings(
            gateways=1,
            model=MODEL,
            settings={"context": 1024, "threads": 1} | more,
            start_s=120,
        )
        for name, more in SETTINGS.items()
    }
    async with Cluster(settings["with"]) as one, Cluster(settings["without"]) as two:
        clusters = {"with": one, "without": two}
        clients = {
            name: httpx.AsyncClient(base_url=cluster.gateway_urls[0], timeout=300, trust_env=False)
            for name, cluster in clusters.items()
        }
        for client in clients.values():
            await talk(client, -1, 1, [])
        for place, group in enumerate(groups):
            for name in sorted(SETTINGS, reverse=bool(place % 2)):
                async with trio.open_nursery() as nursery:
                    for seed in group:
                        nursery.start_soon(talk, clients[name], seed, turns, found[name])
            print(f"{place + 1} of {len(groups)} groups", flush=True)
    print(f"{conversations} conversations of {turns} turns, {together} at a time, 2 workers with 8 slots each")
    print(f"{'affinity':18} {'cached':>7} {'TTFT p50':>10} {'TTFT p95':>10} {'tokens read':>12}   (in ms)")
    for name in SETTINGS:
        print(report(name, found[name]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=40)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--together", type=int, default=8)
    chosen = parser.parse_args()
    trio.run(measure, chosen.conversations, chosen.turns, chosen.together)


if __name__ == "__main__":
    main()
