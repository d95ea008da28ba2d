"""Upstreams of which nothing is heard are asked whether they are there, and a model without any is not ready."""

import random

import pytest
import trio
from trio.testing import MockClock

from llmactors.backends.openai import Balance, OpenAIBackend, OpenAISettings
from llmactors.backends.openai.routing.circuit import CircuitState
from llmactors.backends.openai.routing.faults import FaultKind, UpstreamFault
from llmactors.backends.openai.routing.tries import Tries, Try
from llmactors.errors import BackendFailed
from tests.support.paced_upstream import PacedUpstream


class Rig:
    """A backend before one upstream, which is checked once a second as the backend's actor does."""

    def __init__(self, options: str = "health_check_s=30") -> None:
        self.settings = OpenAISettings.parse(f"http://a/v1,{options}", name="gpt")
        self.balance = Balance.of(self.settings.upstreams)
        self.upstream = PacedUpstream([])
        self.backend = OpenAIBackend(
            self.settings, self.balance, rng=random.Random(1), connect=lambda *_: self.upstream
        )

    @property
    def trouble(self) -> str:
        return self.backend.upstreams()[0].trouble

    async def check_for(self, seconds: float) -> None:
        if not self.backend._upstreams:
            await self.backend.start()
        with trio.move_on_after(seconds):
            while True:
                await self.backend.check()
                await trio.sleep(1)

    def fails_with(self, kind: FaultKind) -> None:
        self.upstream.fault = UpstreamFault(kind, BackendFailed(f"fault {kind.label}"))

    def answer(self) -> None:
        tries = Tries(self.settings, self.balance)
        one = tries.choose(trio.current_time(), random.Random(1))
        assert isinstance(one, Try)
        tries.note_begin(one, trio.current_time())


async def test_silent_upstream_is_asked_now_and_then(autojump_clock: MockClock) -> None:
    rig = Rig()
    await rig.check_for(95)
    assert rig.upstream.lists == 4
    assert not rig.trouble


async def test_upstream_that_answers_is_not_asked(autojump_clock: MockClock) -> None:
    rig = Rig()
    for _ in range(10):
        rig.answer()
        await rig.check_for(20)
    assert rig.upstream.lists == 0


async def test_no_upstream_is_asked_with_probe_s_0(autojump_clock: MockClock) -> None:
    rig = Rig("health_check_s=0")
    await rig.check_for(100)
    assert rig.upstream.lists == 0


@pytest.mark.parametrize(("kind", "within_s"), [(FaultKind.KEY, 1), (FaultKind.UNREACHABLE, 4), (FaultKind.SILENT, 4)])
async def test_dead_upstream_is_in_trouble_until_it_is_back(
    autojump_clock: MockClock, kind: FaultKind, within_s: float
) -> None:
    rig = Rig()
    rig.fails_with(kind)
    await rig.check_for(within_s)
    assert rig.trouble == f"http://a/v1: fault {kind.label}"
    await rig.check_for(300)
    assert rig.trouble
    assert rig.upstream.lists < 40, "the questions become rare"
    rig.upstream.fault = None
    await rig.check_for(31)
    assert not rig.trouble
    rig.answer()
    assert rig.balance.circuits[0].state is CircuitState.CLOSED


@pytest.mark.parametrize("kind", [FaultKind.MODEL, FaultKind.REFUSED, FaultKind.BUSY])
async def test_upstream_without_a_list_is_in_no_trouble(autojump_clock: MockClock, kind: FaultKind) -> None:
    rig = Rig()
    rig.fails_with(kind)
    await rig.check_for(300)
    assert not rig.trouble


async def test_key_that_answered_need_not_list_models(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.answer()
    rig.fails_with(FaultKind.KEY)
    await rig.check_for(300)
    assert not rig.trouble
