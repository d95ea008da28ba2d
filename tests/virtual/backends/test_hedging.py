"""A second upstream is asked where the first token of the first one is late: whose answer is it, and what becomes of
the other.
"""

import contextlib
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from llmactors.backends.base import Job, Output
from llmactors.backends.openai import Balance, OpenAIBackend, OpenAISettings
from llmactors.backends.openai.engines.engine import Reader
from llmactors.backends.openai.requests.call_trace import UNTRACED, CallTrace
from llmactors.backends.openai.requests.upstream import ChunkStream
from llmactors.backends.openai.responses.chunks import Chunk
from llmactors.backends.openai.routing.circuit import CircuitState
from llmactors.backends.openai.routing.faults import FaultKind, UpstreamFault
from llmactors.errors import BackendFailed, InvalidRequest, LlmactorsError
from llmactors.messages import GenerateRequest
from tests.support.paced_upstream import PacedUpstream, Step, words

KEY = ("r", 1)
SLOW = words(9.0, "slow ", "answer")
FAST = words(0.5, "fast ", "answer")
GOOD = "fast answer"


def fault(kind: FaultKind, after_s: float) -> list[Step]:
    error: LlmactorsError = InvalidRequest("no") if kind is FaultKind.REQUEST else BackendFailed(kind.label)
    return [(after_s, UpstreamFault(kind, error))]


class Rig:
    """A backend before two upstreams of which the first is asked first, and the time that an answer took."""

    def __init__(self, *answers: Sequence[Step], options: str = "hedge_s=1") -> None:
        text = "|".join(f"http://{place}/v1,priority={place}" for place in range(len(answers)))
        self.settings = OpenAISettings.parse(f"{text},{options}", name="gpt")
        self.balance = Balance.of(self.settings.upstreams)
        self.upstreams = [PacedUpstream([each]) for each in answers]
        left = iter(self.upstreams)
        self.backend = OpenAIBackend(self.settings, self.balance, rng=random.Random(1), connect=lambda *_: next(left))

    @property
    def asked(self) -> list[int]:
        """How many requests each upstream got."""
        return [len(each.streams) for each in self.upstreams]

    async def run(self) -> tuple[str, float]:
        """The answer, and the seconds to its first token."""
        await self.backend.start()
        began, first_s = trio.current_time(), 0.0
        outputs: list[Output] = []
        async with contextlib.aclosing(self.generate()) as answer:
            async for output in answer:
                first_s = first_s or round(trio.current_time() - began, 6)
                outputs.append(output)
        assert outputs[-1].finish == "stop"
        assert outputs[-1].prompt_tokens == 7
        return "".join(delta.text for output in outputs for delta in output.deltas), first_s

    def generate(self) -> AsyncGenerator[Output, None]:
        return self.backend.generate(Job(KEY, GenerateRequest("r", "gpt", "hi")))

    def assert_all_closed(self) -> None:
        assert all(stream.closed for each in self.upstreams for stream in each.streams)
        assert "running=0" in repr(self.backend)
        assert self.balance.hedges_running == 0


async def test_prompt_first_token_asks_nobody_else(autojump_clock: MockClock) -> None:
    rig = Rig(FAST, FAST)
    assert await rig.run() == (GOOD, 0.5)
    assert rig.asked == [1, 0]


async def test_late_first_token_is_overtaken(autojump_clock: MockClock) -> None:
    rig = Rig(SLOW, FAST)
    assert await rig.run() == (GOOD, 1.5)
    assert rig.asked == [1, 1]
    rig.assert_all_closed()
    assert (rig.balance.counters[0].tries, rig.balance.counters[1].hedges) == ({"cancelled": 1}, {"won": 1})


async def test_first_upstream_may_still_win(autojump_clock: MockClock) -> None:
    rig = Rig(words(1.2, "fast ", "answer"), SLOW)
    assert await rig.run() == (GOOD, 1.2)
    rig.assert_all_closed()
    assert (rig.balance.counters[0].tries, rig.balance.counters[1].hedges) == ({"answered": 1}, {"lost": 1})


async def test_tie_has_one_winner(autojump_clock: MockClock) -> None:
    rig = Rig(words(1.5, "fast ", "answer"), words(0.5, "fast ", "answer"))
    assert await rig.run() == (GOOD, 1.5)
    rig.assert_all_closed()


@pytest.mark.parametrize("is_loser", [0, 1])
async def test_loser_is_neither_a_success_nor_a_failure(autojump_clock: MockClock, is_loser: int) -> None:
    rig = Rig(SLOW, FAST) if is_loser == 0 else Rig(words(1.2, "fast ", "answer"), SLOW)
    circuit = rig.balance.circuits[is_loser]
    for _ in range(2):
        circuit.fail(0.0, random.Random(1))
    await rig.run()
    assert (circuit.state, circuit.failures) == (CircuitState.CLOSED, 2)


async def test_trial_that_loses_makes_way_for_another(autojump_clock: MockClock) -> None:
    rig = Rig(SLOW, FAST)
    circuit = rig.balance.circuits[0]
    circuit.open(-2.0, random.Random(1))
    assert (await rig.run())[0] == GOOD
    assert (circuit.state, circuit.admits(trio.current_time())) == (CircuitState.TRIAL, True)


@pytest.mark.parametrize("kind", list(FaultKind))
async def test_fault_of_the_second_leaves_the_first_alone(autojump_clock: MockClock, kind: FaultKind) -> None:
    rig = Rig(words(3.0, "fast ", "answer"), fault(kind, 0.5))
    assert await rig.run() == (GOOD, 3.0)
    rig.assert_all_closed()
    assert rig.balance.counters[1].hedges == {"failed": 1}


@pytest.mark.parametrize("kind", list(FaultKind))
async def test_fault_of_the_first_leaves_the_second_alone(autojump_clock: MockClock, kind: FaultKind) -> None:
    rig = Rig(fault(kind, 1.2), FAST)
    assert await rig.run() == (GOOD, 1.5)
    rig.assert_all_closed()


async def test_both_fail_and_a_third_answers(autojump_clock: MockClock) -> None:
    rig = Rig(fault(FaultKind.UNREACHABLE, 1.2), fault(FaultKind.UNREACHABLE, 1.0), FAST)
    assert await rig.run() == (GOOD, 2.5)
    assert rig.asked == [1, 1, 1]


async def test_both_refuse_and_the_client_hears_the_first(autojump_clock: MockClock) -> None:
    rig = Rig(fault(FaultKind.REQUEST, 1.5), fault(FaultKind.REQUEST, 1.0))
    with pytest.raises(InvalidRequest):
        await rig.run()
    assert rig.asked == [1, 1]
    rig.assert_all_closed()


async def test_fault_before_hedge_s_goes_the_usual_way(autojump_clock: MockClock) -> None:
    rig = Rig(fault(FaultKind.UNREACHABLE, 0.2), FAST)
    assert await rig.run() == (GOOD, 0.7)


async def test_same_upstream_is_never_asked_twice_at_once(autojump_clock: MockClock) -> None:
    rig = Rig(words(5.0, "fast ", "answer"))
    assert await rig.run() == (GOOD, 5.0)
    assert rig.asked == [1]


async def test_second_upstream_that_comes_back_is_asked_later(autojump_clock: MockClock) -> None:
    rig = Rig(SLOW, FAST)
    rig.balance.circuits[1].hold(2.5)
    assert await rig.run() == (GOOD, 3.5)


async def test_no_second_upstream_is_asked_without_hedge_s(autojump_clock: MockClock) -> None:
    rig = Rig(SLOW, FAST, options="slots=2")
    assert await rig.run() == ("slow answer", 9.0)
    assert rig.asked == [1, 0]


@pytest.mark.parametrize("after_s", [0.0, 0.9, 1.0, 1.2, 1.5, 1.6, 9.0])
async def test_cancel_at_any_time_closes_every_stream(autojump_clock: MockClock, after_s: float) -> None:
    rig = Rig(SLOW, FAST)
    with trio.move_on_after(after_s):
        await rig.run()
        await trio.sleep_forever()
    rig.assert_all_closed()
    for circuit in rig.balance.circuits:
        assert circuit.admits(trio.current_time())


async def test_reasoning_wins_a_race_and_is_life(autojump_clock: MockClock) -> None:
    """Reasoning that lasts longer than `first_s` is no silence, and an upstream that reasons has begun."""
    thoughts = [(0.5, Chunk(reasoning="hm ")) for _ in range(20)]
    rig = Rig([*thoughts, *words(0.5, "fast ", "answer")], FAST, options="hedge_s=1,first_s=2,silence_s=1")
    assert await rig.run() == (GOOD, 0.5)
    assert rig.asked == [1, 0]


async def test_error_of_one_try_reaches_the_client_bare(autojump_clock: MockClock) -> None:
    """Unless the other try answers."""

    class Refusing(PacedUpstream):
        async def open(
            self, route: str, body: Mapping[str, Any], reader: Reader, trace: CallTrace = UNTRACED
        ) -> ChunkStream:
            await trio.sleep(1.1)
            raise InvalidRequest("no such field")

    for other in (fault(FaultKind.UNREACHABLE, 0.2), FAST):
        rig = Rig(SLOW, other, options="hedge_s=1,attempts=2")
        rig.upstreams[0] = Refusing([])
        if other is FAST:
            assert await rig.run() == (GOOD, 1.5)
        else:
            with pytest.raises(LlmactorsError):
                await rig.run()


async def test_upstream_that_loses_races_is_asked_less(autojump_clock: MockClock) -> None:
    """The upstream gets its share back with the first tokens that it gives in time."""
    text = "http://a/v1|http://b/v1,hedge_s=1"
    settings = OpenAISettings.parse(text, name="gpt")
    balance = Balance.of(settings.upstreams)
    slow, fast = PacedUpstream([SLOW]), PacedUpstream([FAST])
    left = iter((slow, fast))
    backend = OpenAIBackend(settings, balance, rng=random.Random(1), connect=lambda *_: next(left))
    await backend.start()

    async def asked_first(times: int) -> int:
        first = 0
        for _ in range(times):
            before = len(fast.streams)
            async with contextlib.aclosing(backend.generate(Job(KEY, GenerateRequest("r", "gpt", "hi")))) as outputs:
                began, tokens = trio.current_time(), [output async for output in outputs]
            assert tokens
            first += len(fast.streams) == before or trio.current_time() - began > 1
        return first

    assert await asked_first(100) <= 25
    slow.answers = [FAST]
    slow.streams.clear()
    await asked_first(100)
    assert 25 <= await asked_first(100) <= 75
