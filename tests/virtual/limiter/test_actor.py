"""While the ledger is away, each gateway's limiter admits a caller's requests up to its share of the limits."""

import pytest
from trio.testing import MockClock

from llmactors.limiter import LimiterStore, Limits, RatePolicy, charges_for
from llmactors.limiter.actor import LimiterActor, TakeShare

RATE = RatePolicy(amount=6, period_s=60)
LIMITS = Limits(requests_per_minute=1000, tokens_per_minute=10_000, concurrent=1)


class Gateway:
    """The limiter of one of `gateways` gateways."""

    def __init__(self, gateways: int = 3) -> None:
        self.store = LimiterStore()
        self.gateways = gateways
        self.restart()

    def restart(self) -> None:
        """As after a crash: another actor, with the store of the one before."""
        self.actor = LimiterActor(self.store, gateways=lambda: self.gateways)

    async def admits(self, *tokens: int) -> bool:
        charges = [
            charge
            for each in tokens or (16,)
            for charge in charges_for(LIMITS, "t", tokens=each, rate=RATE, limit_key="key")
        ]
        standings = await self.actor.on_message(TakeShare(tuple(charges)))
        return all(standing.decision.admitted for standing in standings)

    async def admitted(self, tries: int) -> int:
        return sum([await self.admits() for _ in range(tries)])


@pytest.mark.parametrize(("gateways", "share"), [(1, 6), (3, 2), (100, 1), (0, 6)])
async def test_a_gateway_takes_its_share(gateways: int, share: int, autojump_clock: MockClock) -> None:
    assert await Gateway(gateways).admitted(6) == share


async def test_a_crash_does_not_reset_the_share(autojump_clock: MockClock) -> None:
    gateway = Gateway()
    assert await gateway.admitted(6) == 2
    gateway.restart()
    assert await gateway.admitted(6) == 0


async def test_requests_of_one_call_are_admitted_together(autojump_clock: MockClock) -> None:
    gateway = Gateway()
    assert not await gateway.admits(16, 16, 16)
    assert await gateway.admits(16, 16)
