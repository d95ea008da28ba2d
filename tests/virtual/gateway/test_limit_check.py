"""What a call's requests are charged, and how the gateway asks its limiter while the ledger is away."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from llmactors.access.authentication import Caller
from llmactors.actors import NO_BACKOFF, Actor, ActorRef, ActorSpec, SupervisorSpec, Tree
from llmactors.errors import LlmactorsError, Unavailable
from llmactors.gateway.limit_check import LimitCheck
from llmactors.limiter import Limit, LimiterStore, Limits, RatePolicy
from llmactors.limiter.actor import LimiterActor

RATE = RatePolicy(amount=6, period_s=60)
CALLER = Caller("t", "key", limits=Limits(requests_per_minute=1000, tokens_per_minute=10_000, concurrent=1))


class Faulty(Actor):
    """A limiter that does `fault` before it answers."""

    def __init__(self, fault: Callable[[], Awaitable[None]]) -> None:
        self._fault = fault
        self._limiter = LimiterActor(LimiterStore(), gateways=lambda: 3)

    async def on_message(self, message: object) -> object:
        await self._fault()
        return await self._limiter.on_message(message)  # type: ignore[arg-type]


async def admitted_by(make: Callable[[], Actor], tries: int = 1) -> int:
    """How many of `tries` calls the limiter that `make` returns admits, while the ledger is away."""
    spec = ActorSpec("limiter", make)
    tree = Tree(SupervisorSpec("root", (spec,), intensity=10, backoff=NO_BACKOFF))
    check = LimitCheck(RATE, spec.ref, ledger_is_up=lambda: False)
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        try:
            return sum([await admits(check) for _ in range(tries)])
        finally:
            tree.stop()


async def admits(check: LimitCheck) -> bool:
    standings = await check.take_share(check.charges(CALLER, [(16, 0)]))
    return all(standing.decision.admitted for standing in standings)


def crash(times: int) -> Callable[[], Awaitable[None]]:
    left = times

    async def fault() -> None:
        nonlocal left
        if left:
            left -= 1
            raise ValueError("a drill")

    return fault


def test_each_request_is_charged_what_it_may_use() -> None:
    [first, second] = LimitCheck(RATE).charges(CALLER, [(16, 0), (30, 0)])
    costs = {Limit.RATE: 1, Limit.REQUESTS: 1, Limit.TOKENS: 16, Limit.CONCURRENT: 1}
    assert {charge.limit: charge.cost for charge in first} == costs
    assert {charge.limit: charge.cost for charge in second} == costs | {Limit.TOKENS: 30}


async def test_limiter_is_not_asked_while_the_ledger_is_up() -> None:
    nobody = ActorSpec("limiter", lambda: LimiterActor(LimiterStore(), gateways=lambda: 1))
    assert await admits(LimitCheck(RATE, nobody.ref, ledger_is_up=lambda: True))
    assert await admits(LimitCheck(RATE, None, ledger_is_up=lambda: False))


async def test_limiter_counts_while_the_ledger_is_away(autojump_clock: MockClock) -> None:
    assert await admitted_by(lambda: LimiterActor(LimiterStore(), gateways=lambda: 3), tries=6) == 2


async def test_limiter_crash_during_a_call_is_retried(autojump_clock: MockClock) -> None:
    fault = crash(times=1)
    assert await admitted_by(lambda: Faulty(fault)) == 1


@pytest.mark.parametrize("fault", [crash(times=2), trio.sleep_forever])
async def test_dead_or_hung_limiter_is_unavailable(
    fault: Callable[[], Awaitable[None]], autojump_clock: MockClock
) -> None:
    with pytest.RaisesGroup(Unavailable):
        await admitted_by(lambda: Faulty(fault))


@pytest.mark.parametrize("work_s", [0.005, 0.05, 0.5])
async def test_crowd_at_the_limiter_gets_no_deadline_error(work_s: float, autojump_clock: MockClock) -> None:
    """No client has set a deadline, so that none can have passed."""
    spec = ActorSpec("limiter", lambda: Faulty(partial(trio.sleep, work_s)))
    tree = Tree(SupervisorSpec("root", (spec,), intensity=10, backoff=NO_BACKOFF))
    check = LimitCheck(RATE, spec.ref, ledger_is_up=lambda: False)
    answers: list[bool | LlmactorsError] = []

    async def ask() -> None:
        try:
            answers.append(await admits(check))
        except LlmactorsError as error:
            answers.append(error)

    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        async with trio.open_nursery() as crowd:
            for _ in range(200):
                crowd.start_soon(ask)
        tree.stop()
    refused = [answer for answer in answers if isinstance(answer, LlmactorsError)]
    assert len(answers) == 200
    assert all(error.status in {429, 503} and error.retry_after_s == 1.0 for error in refused)
    assert not any("limiter/" in error.message or "root" in error.message for error in refused)


async def test_client_waits_at_most_two_answer_times(autojump_clock: MockClock) -> None:
    spec: ActorRef = ActorSpec("limiter", Actor).ref  # never started
    check = LimitCheck(RATE, spec, ledger_is_up=lambda: False, answer_s=2.0)
    with pytest.raises(Unavailable) as caught:
        await admits(check)
    assert caught.value.retry_after_s == 1.0
    assert trio.current_time() == 2 * 2.0
