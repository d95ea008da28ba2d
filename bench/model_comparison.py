"""Two servers of one real model, asked the same by turns: what the second server adds to the first.

Both servers sample greedily and read every prompt anew, so they differ only in what surrounds the model. The time to
the first token at N streams is that of short questions, one after another, while N - 1 other streams run. llama.cpp
looks for new requests only between two steps, so a question mostly waits for the end of the current step. By chance
alone these waits would differ by more than the servers do. Therefore the questions of a turn are spread evenly over a
step, and the tokens of one of the other streams show when a step begins.

If all N questions came at once instead, the time would be that of reading N prompts, in an order that the server
chooses.
"""

import random
import statistics
from collections import deque
from collections.abc import Sequence

import attrs
import trio

from bench import turns
from bench.completions import Completion, Endpoint, complete

_WORDS = ("river", "stone", "harbor", "amber", "cedar", "frost", "meadow", "lantern", "winter", "copper", "orchard")
_LONG_TOKENS = 400
"""The length of a stream that runs beside the questions. Another stream follows when one ends."""
_QUESTION_TOKENS = 3
"""A question asks for more than one token, so that its end does not disturb the next question."""
_SETTLE_S = 0.5


@attrs.frozen
class Speed:
    """Tokens per second of N answers at once: medians over the rounds."""

    direct: float
    """Of the server that is asked directly."""
    ours: float
    """Of llmactors."""
    ratio: float
    """The median of the ratios of the rounds, ours to direct."""
    same_texts: bool
    """Whether both gave the same texts. True with several streams, where a batch rounds its sums in another way."""


@attrs.frozen
class FirstToken:
    """Seconds to the first token, medians over all questions."""

    direct_s: float
    """Of the server that is asked directly."""
    ours_s: float
    """Of llmactors."""
    added_s: float
    """The difference of the two medians."""
    interval_s: tuple[float, float]
    """Where the difference lies with 95 % confidence."""

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]], rng: random.Random) -> "FirstToken":
        """Statistics of times to the first token, direct and ours, of the same questions. Pure."""

        def added(drawn: Sequence[tuple[float, float]]) -> float:
            return statistics.median(ours for _, ours in drawn) - statistics.median(direct for direct, _ in drawn)

        direct_s, ours_s = (statistics.median(times) for times in zip(*pairs, strict=True))
        return cls(direct_s, ours_s, ours_s - direct_s, turns.interval([pairs], added, rng))


class StepTimer:
    """Measures the steps of a model by the tokens of one stream.

    One stream only: the tokens of several streams in one step do not arrive at the same time.
    """

    def __init__(self) -> None:
        self._steps_s: deque[float] = deque([0.0], maxlen=5)
        self._last = trio.current_time()
        self._next = trio.Event()

    @property
    def step_s(self) -> float:
        """The length of a step: the median of the last five, since a step that also reads a prompt takes longer."""
        return statistics.median(self._steps_s)

    def token(self) -> None:
        """Note that the stream had a token now."""
        now = trio.current_time()
        self._steps_s.append(now - self._last)
        self._last = now
        self._next.set()
        self._next = trio.Event()

    async def wait(self) -> None:
        """Wait for the next token, which comes at the end of a step."""
        await self._next.wait()


async def speed(
    direct: Endpoint, ours: Endpoint, streams: int, *, rounds: int, max_tokens: int, rng: random.Random
) -> Speed:
    """Measure N answers at once on both servers by turns. One more round comes first as a warm-up."""
    endpoints = (direct, ours)
    rates: list[tuple[float, float]] = []
    same_texts = True
    for number in range(rounds + 1):
        prompts = [" ".join(rng.choices(_WORDS, k=24)) for _ in range(streams)]
        texts: dict[int, list[str]] = {}
        rate: dict[int, float] = {}
        for place in turns.order(number):
            begun = trio.current_time()
            answers = await _complete_all(endpoints[place], prompts, max_tokens)
            rate[place] = sum(answer.tokens for answer in answers) / (trio.current_time() - begun)
            texts[place] = [answer.text for answer in answers]
        same_texts = same_texts and (streams > 1 or texts[0] == texts[1])
        if number:
            rates.append((rate[0], rate[1]))
    direct_rate, ours_rate = (statistics.median(values) for values in zip(*rates, strict=True))
    ratio = statistics.median(after / before for before, after in rates)
    return Speed(direct_rate, ours_rate, ratio, same_texts)


async def first_token(
    direct: Endpoint, ours: Endpoint, streams: int, *, rounds: int, questions: int, rng: random.Random
) -> FirstToken:
    """Measure the time to the first token on both servers by turns. One more round comes first as a warm-up."""
    endpoints = (direct, ours)
    pairs: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        shares = [(place + rng.random()) / questions for place in range(questions)]
        rng.shuffle(shares)
        others = [_short_prompt(rng) for _ in range(streams - 1)]
        asked = [(share, _short_prompt(rng)) for share in shares]
        times_s = {place: await _ask(endpoints[place], others, asked) for place in turns.order(number)}
        if number:
            pairs += zip(times_s[0], times_s[1], strict=True)
    return FirstToken.of(pairs, rng)


async def _complete_all(endpoint: Endpoint, prompts: Sequence[str], max_tokens: int) -> list[Completion]:
    answers: dict[int, Completion] = {}

    async def one(place: int, prompt: str) -> None:
        answers[place] = await complete(endpoint, prompt, max_tokens)

    async with trio.open_nursery() as nursery:
        for place, prompt in enumerate(prompts):
            nursery.start_soon(one, place, prompt)
    return [answers[place] for place in range(len(prompts))]


def _short_prompt(rng: random.Random) -> str:
    return " ".join(rng.choices(_WORDS, k=3))


async def _ask(endpoint: Endpoint, others: Sequence[str], asked: Sequence[tuple[float, str]]) -> list[float]:
    """The time to the first token of each question in seconds, while streams with the prompts `others` run.

    Each question is a prompt with the share of a step after which the prompt is sent.
    """
    timer, times_s = StepTimer(), list[float]()
    async with trio.open_nursery() as nursery:
        for place, prompt in enumerate(others):
            nursery.start_soon(_stream_forever, endpoint, prompt, StepTimer() if place else timer)
        await trio.sleep(_SETTLE_S)
        for share, prompt in asked:
            if others:
                await timer.wait()
                await trio.sleep(share * timer.step_s)
            times_s.append((await complete(endpoint, prompt, _QUESTION_TOKENS)).first_token_s)
        nursery.cancel_scope.cancel(reason="all questions have been asked")
    await trio.sleep(_SETTLE_S)  # until the server has noticed that the streams are gone
    return times_s


async def _stream_forever(endpoint: Endpoint, prompt: str, timer: StepTimer) -> None:
    while True:
        await complete(endpoint, prompt, _LONG_TOKENS, timer.token)
