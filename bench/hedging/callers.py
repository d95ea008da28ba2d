"""Callers that come at random, measure the time to the first token, and check every token."""

import json
import random

import attrs
import httpx
import trio

from bench.hedging.upstream import WORDS, word

ANSWER = "".join(map(word, range(WORDS)))
_CALL_S = 60.0


@attrs.define
class Measured:
    """What the callers of one case saw."""

    first_s: list[float] = attrs.field(factory=list)
    """The times to the first token."""
    wrong: list[str] = attrs.field(factory=list)
    """The answers that failed, or have a token too few or too many."""

    failed: int = 0
    """How many calls got no answer at all."""

    def percentile(self, share: float) -> float:
        """The time within which this share of the first tokens came."""
        ordered = sorted(self.first_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def call_at_random(url: str, count: int, per_s: float, rng: random.Random) -> Measured:
    """Sends `count` requests at random times, `per_s` a second, whatever the answers do."""
    measured = Measured()
    limits = httpx.Limits(max_connections=None)
    http = httpx.AsyncClient(base_url=url, timeout=_CALL_S, trust_env=False, limits=limits)
    async with http as client, trio.open_nursery() as nursery:
        # The gateway hears of the workers a moment after their start.
        while (await client.get("/readyz")).is_error:  # noqa: ASYNC110 - the state is of another process
            await trio.sleep(0.1)
        for number in range(count):
            nursery.start_soon(_call, client, number, measured)
            await trio.sleep(rng.expovariate(per_s))
    return measured


async def _call(client: httpx.AsyncClient, number: int, measured: Measured) -> None:
    body = {
        "model": "m",
        "prompt": f"{number}: ",
        "max_tokens": WORDS,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began, first_s, text = trio.current_time(), 0.0, ""
    usage: dict[str, int] = {}
    try:
        async with client.stream("POST", "/v1/completions", json=body) as answer:
            if answer.is_error:
                await answer.aread()
                measured.failed += 1
                measured.wrong.append(f"{number}: {answer.status_code} {answer.text}")
                return
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line.removeprefix("data: "))
                found = "".join(choice["text"] for choice in chunk.get("choices", ()))
                if found and not first_s:
                    first_s = trio.current_time() - began
                text += found
                usage = chunk.get("usage") or usage
    except httpx.HTTPError as error:
        measured.failed += 1
        measured.wrong.append(f"{number}: {error!r}")
        return
    if text != ANSWER or usage.get("completion_tokens") != WORDS:
        measured.wrong.append(f"{number}: {text!r}, {usage}")
    measured.first_s.append(first_s)
