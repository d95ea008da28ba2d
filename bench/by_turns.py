"""Two servers of the same model, asked the same by turns over OpenAI's completions: what one adds to the other.

Both read every prompt anew and sample greedily, so that what differs is what lies around the model. The time to the
first token at N streams is that of short questions, one after another, while N - 1 other streams run. llama.cpp looks
for new requests between two steps only, so most of what a question waits for is the rest of the step it falls into.
Therefore the questions of one turn come at times spread evenly over a step, told from the tokens of a stream that runs:
by chance alone the waits of two servers would differ by more than what is looked for.

If all N came at once instead, their time would be that of reading N prompts, in an order that the server chooses.
"""

import json
import random
import statistics
from collections import deque
from collections.abc import Callable, Sequence

import attrs
import trio

from bench.contestants import Serving, port_of

WORDS = ("river", "stone", "harbor", "amber", "cedar", "frost", "meadow", "lantern", "winter", "copper", "orchard")
PLAIN = {"samplers": ["top_k"], "top_k": 1, "cache_prompt": False}
"""What our backend asks of llama.cpp for a greedy answer; our own route passes it over."""
MODEL = "m"
LONG = 400
"""Tokens of a stream that runs beside questions; it begins anew when it ends."""
SETTLE_S = 0.5
RESAMPLES = 2000


@attrs.frozen
class Target:
    """Where to ask."""

    port: int
    key: str

    @classmethod
    def of(cls, serving: Serving) -> "Target":
        return cls(port_of(serving.url), serving.key or "none")


@attrs.frozen
class Answer:
    """One stream."""

    first_s: float
    tokens: int
    text: str


@attrs.frozen
class Speed:
    """Tokens per second of N answers at once: medians over the rounds."""

    direct: float
    ours: float
    ratio: float
    """Each round compared with itself."""
    same_texts: bool
    """Of answers that run alone; in company the sums of a batch are rounded otherwise."""


@attrs.frozen
class FirstToken:
    """Seconds to the first token, medians over all questions."""

    direct_s: float
    ours_s: float
    added_s: float
    interval_s: tuple[float, float]
    """In which the difference lies, with 95 % confidence (bootstrap)."""


class Beat:
    """When a stream that runs beside questions had its tokens. One stream only: those of a step do not come as one."""

    def __init__(self) -> None:
        self._steps_s: deque[float] = deque([0.0], maxlen=5)
        self._last = trio.current_time()
        self._next = trio.Event()

    @property
    def step_s(self) -> float:
        """How long a step takes: the median of the last few, as some read a prompt too."""
        return statistics.median(self._steps_s)

    def token(self) -> None:
        now = trio.current_time()
        self._steps_s.append(now - self._last)
        self._last = now
        self._next.set()
        self._next = trio.Event()

    async def wait(self) -> None:
        """For the end of a step."""
        await self._next.wait()


async def ask(target: Target, prompt: str, max_tokens: int, on_token: Callable[[], None] = lambda: None) -> Answer:
    """One greedy completion as a stream."""
    body = json.dumps(
        {
            "model": MODEL,
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **PLAIN,
        }
    ).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {target.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    begun, first_s, seen = trio.current_time(), 0.0, bytearray()
    async with await trio.open_tcp_stream("127.0.0.1", target.port) as stream:
        await stream.send_all(head.encode() + body)
        while b"data: [DONE]" not in seen[-64:]:
            data = await stream.receive_some()
            if not data:
                raise RuntimeError(f"the stream ended too early: {bytes(seen[-300:])!r}")
            seen += data
            if not first_s and b"data: " in seen:
                first_s = trio.current_time() - begun
            on_token()
    lines = [line for line in bytes(seen).split(b"\n") if line.startswith(b"data: {")]
    chunks = [json.loads(line.removeprefix(b"data: ")) for line in lines]
    text = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
    [tokens] = [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk.get("usage")]
    return Answer(first_s, tokens, text)


async def speed(
    direct: Target, ours: Target, streams: int, *, rounds: int, max_tokens: int, rng: random.Random
) -> Speed:
    """N answers at once, by turns, and who is first by turns too. One more round comes first and does not count."""
    found: dict[Target, list[float]] = {direct: [], ours: []}
    same = True
    for number in range(rounds + 1):
        prompts = [" ".join(rng.choices(WORDS, k=24)) for _ in range(streams)]
        texts: dict[Target, list[str]] = {}
        for target in (direct, ours) if number % 2 else (ours, direct):
            begun = trio.current_time()
            answers = await _ask_all(target, prompts, max_tokens)
            if number:
                found[target].append(sum(answer.tokens for answer in answers) / (trio.current_time() - begun))
            texts[target] = [answer.text for answer in answers]
        same = same and (streams > 1 or texts[direct] == texts[ours])
    before, after = found[direct], found[ours]
    ratio = statistics.median(mine / other for other, mine in zip(before, after, strict=True))
    return Speed(statistics.median(before), statistics.median(after), ratio, same)


async def first_token(
    direct: Target, ours: Target, streams: int, *, turns: int, questions: int, rng: random.Random
) -> FirstToken:
    """By turns, and who is first by turns too. One more turn of each comes first and does not count."""
    found: dict[Target, list[float]] = {direct: [], ours: []}
    for number in range(turns + 1):
        shares = [(place + rng.random()) / questions for place in range(questions)]
        rng.shuffle(shares)
        others = [_prompt(rng) for _ in range(streams - 1)]
        asked = [(share, _prompt(rng)) for share in shares]
        for target in (direct, ours) if number % 2 else (ours, direct):
            times_s = await _question(target, others, asked)
            found[target] += times_s if number else []
    return compare(found[direct], found[ours], rng)


def compare(before: Sequence[float], after: Sequence[float], rng: random.Random) -> FirstToken:
    """Medians, and how well their difference is known, of the same questions at the same times in a step. Pure."""
    differences: list[float] = []
    for _ in range(RESAMPLES):
        drawn = rng.choices(range(len(before)), k=len(before))
        differences.append(statistics.median(after[at] for at in drawn) - statistics.median(before[at] for at in drawn))
    differences.sort()
    interval = differences[round(0.025 * RESAMPLES)], differences[round(0.975 * RESAMPLES)]
    direct_s, ours_s = statistics.median(before), statistics.median(after)
    return FirstToken(direct_s, ours_s, ours_s - direct_s, interval)


async def _ask_all(target: Target, prompts: Sequence[str], max_tokens: int) -> list[Answer]:
    answers: dict[int, Answer] = {}

    async def one(place: int, prompt: str) -> None:
        answers[place] = await ask(target, prompt, max_tokens)

    async with trio.open_nursery() as nursery:
        for place, prompt in enumerate(prompts):
            nursery.start_soon(one, place, prompt)
    return [answers[place] for place in range(len(prompts))]


def _prompt(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=3))


async def _question(target: Target, others: Sequence[str], asked: Sequence[tuple[float, str]]) -> list[float]:
    """The time to the first token of each question, with other streams running. In seconds."""
    beat, times_s = Beat(), list[float]()
    async with trio.open_nursery() as nursery:
        for place, prompt in enumerate(others):
            nursery.start_soon(_run_on, target, prompt, Beat() if place else beat)
        await trio.sleep(SETTLE_S)
        for share, prompt in asked:
            if others:
                await beat.wait()
                await trio.sleep(share * beat.step_s)
            # A few tokens more, so that no end is in the way.
            times_s.append((await ask(target, prompt, 3)).first_s)
        nursery.cancel_scope.cancel()
    await trio.sleep(SETTLE_S)  # until they are known to be gone
    return times_s


async def _run_on(target: Target, prompt: str, beat: Beat) -> None:
    while True:
        await ask(target, prompt, LONG, beat.token)
