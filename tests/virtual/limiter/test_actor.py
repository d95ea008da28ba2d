"""While the ledger is away each gateway's limiter lets a caller's requests wait for it up to its share of the limit."""

import pytest
from trio.testing import MockClock

from llmactors.limiter import Limit, LimiterStore, Limits, RatePolicy
from llmactors.limiter.actor import Assess, LimiterActor

LIMITS = Limits(requests_per_minute=1000, tokens_per_minute=10_000, concurrent=1)


class Gateway:
    """One limiter, whose ledger is away, or not."""

    def __init__(self, gateways: int = 3) -> None:
        self.away = True
        self.store = LimiterStore()
        self.gateways = gateways
        self.restart()

    def restart(self) -> None:
        """As after a crash: another actor, with the memory of the one before."""
        rate = RatePolicy(amount=6, period_s=60)
        self.actor = LimiterActor(rate, self.store, ledger_is_up=lambda: not self.away, gateways=lambda: self.gateways)

    async def admits(self, *tokens: int) -> bool:
        return (await self.actor.on_message(Assess("t", "key", LIMITS, tokens or (16,)))).admitted

    async def admitted(self, tries: int) -> int:
        return sum([await self.admits() for _ in range(tries)])


@pytest.mark.parametrize(("gateways", "share"), [(1, 6), (3, 2), (100, 1), (0, 6)])
async def test_a_gateway_alone_takes_its_share(gateways: int, share: int, autojump_clock: MockClock) -> None:
    assert await Gateway(gateways).admitted(6) == share


async def test_a_crash_forgives_nobody(autojump_clock: MockClock) -> None:
    gateway = Gateway()
    assert await gateway.admitted(6) == 2
    gateway.restart()
    assert await gateway.admitted(6) == 0


async def test_what_belongs_together_is_admitted_whole_or_not_at_all(autojump_clock: MockClock) -> None:
    gateway = Gateway()
    assert not await gateway.admits(16, 16, 16)
    assert await gateway.admits(16, 16)


async def test_with_the_ledger_back_it_only_says_what_is_charged(autojump_clock: MockClock) -> None:
    gateway = Gateway()
    assert await gateway.admitted(6) == 2
    gateway.away = False
    assert await gateway.admitted(6) == 6
    [first, second] = (await gateway.actor.on_message(Assess("t", "key", LIMITS, (16, 30)))).charges
    costs = {Limit.RATE: 1, Limit.REQUESTS: 1, Limit.TOKENS: 16, Limit.CONCURRENT: 1}
    assert {charge.limit: charge.cost for charge in first} == costs
    assert {charge.limit: charge.cost for charge in second} == costs | {Limit.TOKENS: 30}
