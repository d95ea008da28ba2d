"""An upstream is asked for its abilities once, by one request at a time, and goes on with its own ids only."""

import contextlib
import random
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from llmactors.backends.base import Job
from llmactors.backends.openai import OpenAIBackend, OpenAISettings
from llmactors.backends.openai.continuation.abilities import Abilities
from llmactors.backends.openai.continuation.chooser import AnswerSoFar, StrategyChooser
from llmactors.backends.openai.continuation.strategy import ContinuationStrategy, LoggedAnswer, go_on
from llmactors.backends.openai.engines import ENGINES
from llmactors.backends.openai.responses.answer import UpstreamAnswer
from llmactors.backends.openai.responses.chunks import NO_TOKEN
from llmactors.backends.openai.routing.faults import FaultKind, UpstreamFault
from llmactors.errors import BackendFailed
from llmactors.messages import GenerateRequest, PromptTokens, TokenDelta, TokenExtra
from tests.support.paced_upstream import PacedUpstream, words

GREEDY = GenerateRequest("r", "m", "Hello", max_tokens=20, temperature=0.0)


class Server:
    """Answers after one second."""

    def __init__(self, kind: FaultKind | None = None) -> None:
        self.kind = kind
        self.asked: list[str] = []

    async def fetch(self, route: str, body: Mapping[str, Any] | None) -> bytes:
        self.asked.append(route)
        await trio.sleep(1)
        if self.kind is not None:
            raise UpstreamFault(self.kind, BackendFailed("no"))
        continued = body is not None and "continue_final_message" in body
        return msgspec.json.encode({"usage": {"prompt_tokens": 5 if continued else 9}})


async def ask(abilities: Abilities, server: Server, times: int) -> list[bool | FaultKind]:
    found: list[bool | FaultKind] = []

    async def one() -> None:
        try:
            found.append(await abilities.continues_text(server, "m", "max_tokens"))
        except UpstreamFault as fault:
            found.append(fault.kind)

    async with trio.open_nursery() as nursery:
        for _ in range(times):
            nursery.start_soon(one)
    return found


async def test_hundred_requests_share_one_question(autojump_clock: MockClock) -> None:
    abilities, server = Abilities(), Server()
    assert await ask(abilities, server, 100) == [True] * 100
    assert len(server.asked) == 2
    abilities.forget()
    assert await ask(abilities, server, 1) == [True]
    assert len(server.asked) == 4


async def test_hundred_requests_share_one_fault(autojump_clock: MockClock) -> None:
    abilities, server = Abilities(), Server(FaultKind.BUSY)
    assert await ask(abilities, server, 100) == [FaultKind.BUSY] * 100
    assert len(server.asked) == 1
    server.kind = None
    assert await ask(abilities, server, 1) == [True]


@pytest.mark.parametrize("kind", [FaultKind.REQUEST, FaultKind.MALFORMED])
async def test_refused_question_is_not_asked_after_each_cut(kind: FaultKind, autojump_clock: MockClock) -> None:
    abilities, server = Abilities(), Server(kind)
    for _ in range(3):
        assert await ask(abilities, server, 1) == [False]
        abilities.forget()
    assert len(server.asked) == 1
    await trio.sleep(3600)
    abilities.forget()
    await ask(abilities, server, 1)
    assert len(server.asked) == 2


class Llama:
    """A server of llama.cpp."""

    async def fetch(self, route: str, body: Mapping[str, Any] | None) -> bytes:
        await trio.lowlevel.checkpoint()
        texts = {"/props": {}, "/apply-template": {"prompt": "p"}, "/detokenize": {"content": "x"}}
        return msgspec.json.encode(texts.get(route, {"tokens": [1, 2, 3]}))


@pytest.mark.parametrize("prompt", [PromptTokens.of((7, 8), "another"), None], ids=["another", "unknown"])
async def test_no_ids_are_read_by_another_vocabulary(prompt: PromptTokens | None) -> None:
    settings = OpenAISettings.parse("http://host/v1,model=m,engine=llamacpp")
    chooser = StrategyChooser(settings, (Llama(),))  # type: ignore[arg-type]
    answer = AnswerSoFar(GREEDY, [TokenDelta(5, "a", TokenExtra(prompt=prompt))])
    assert await chooser.choose(0, answer) is ContinuationStrategy.TEXT
    answer.refused.add((0, ContinuationStrategy.TEXT))
    assert await chooser.choose(0, answer) is ContinuationStrategy.ANEW
    opening = await chooser.opening(0, ContinuationStrategy.ANEW, answer)
    assert opening is not None
    assert opening.body["prompt"] == [1, 2, 3]
    assert isinstance(opening.answer, UpstreamAnswer)  # which hides the ids from the log


def test_text_behind_reasoning_is_not_continued() -> None:
    logged = LoggedAnswer.of([TokenDelta(NO_TOKEN, "", TokenExtra(reasoning="so")), TokenDelta(NO_TOKEN, "a")])
    assert go_on(GREEDY, logged, has_engine=True) == [ContinuationStrategy.ANEW]


async def test_answer_made_again_may_take_as_long_as_before(autojump_clock: MockClock) -> None:
    logged = [TokenDelta(NO_TOKEN, text) for text in "abcde"]
    made = PacedUpstream([words(20.0, *"abcdefg", step_s=20.0)])
    settings = OpenAISettings.parse("http://host/v1,model=m,continue=raw,first_s=25,silence_s=25")
    backend = OpenAIBackend(settings, rng=random.Random(1), connect=lambda *_: made)
    await backend.start()
    async with contextlib.aclosing(backend.generate(Job(("r", 1), GREEDY, tuple(logged)))) as outputs:
        found = [delta.text for output in [each async for each in outputs] for delta in output.deltas]
    assert "".join(found) == "fg"


async def test_end_behind_the_last_token_counts_the_prompt() -> None:
    prompt = TokenExtra(prompt=PromptTokens.of((7, 8, 9), "v"))
    logged = [TokenDelta(1, "a", prompt), *[TokenDelta(2, "b")] * (GREEDY.max_tokens - 1)]
    backend = OpenAIBackend(OpenAISettings.parse("http://host/v1,model=m"))
    async with contextlib.aclosing(backend.generate(Job(("r", 1), GREEDY, tuple(logged)))) as outputs:
        [last] = [each async for each in outputs]
    assert (last.finish, last.prompt_tokens) == ("length", 3)


class Swapped(Llama):
    """A server whose model can be exchanged."""

    def __init__(self) -> None:
        self.ids = [1, 2, 3]
        self.tokenized = 0

    async def fetch(self, route: str, body: Mapping[str, Any] | None) -> bytes:
        if route != "/tokenize":
            return await super().fetch(route, body)
        await trio.lowlevel.checkpoint()
        self.tokenized += 1
        return msgspec.json.encode({"tokens": self.ids})


async def test_other_model_after_a_pause_is_noticed(autojump_clock: MockClock) -> None:
    server, abilities = Swapped(), Abilities()
    engine = ENGINES["llamacpp"]
    first = await abilities.vocabulary(engine, server, "m")
    asked = server.tokenized
    for _ in range(20):
        await trio.sleep(1)
        assert await abilities.vocabulary(engine, server, "m") == first
    assert server.tokenized == asked, "requests that follow each other ask nothing"
    await trio.sleep(60)
    assert await abilities.vocabulary(engine, server, "m") == first
    assert server.tokenized == asked + 1, "the same model is asked once"
    server.ids = [4, 5]
    await trio.sleep(60)
    assert await abilities.vocabulary(engine, server, "m") != first
