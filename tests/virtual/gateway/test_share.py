"""While the ledger is away each gateway lets a caller's requests wait for it up to its share of the limit."""

import contextlib

import pytest
from trio.testing import MockClock

from llmactors.backends.base import Batching, Capabilities, Takeover
from llmactors.backends.directory import ModelDirectory, ModelState, ModelStatus
from llmactors.gateway.auth import Caller
from llmactors.gateway.limited import LimitReached
from llmactors.gateway.schema import GenerateBody
from llmactors.gateway.service import Service, ServiceSettings
from llmactors.ledger import MemoryLedger
from llmactors.limiter import Limits, RatePolicy
from llmactors.telemetry import Metrics

READY = ModelStatus(ModelState.READY, Capabilities(4, 100, Takeover.EXACT, Batching.CONTINUOUS))
BODY = GenerateBody(prompt="8 bytes.", max_tokens=8)
CALLER = Caller("t", "key", Limits(requests_per_minute=1000, tokens_per_minute=10_000))


class Gateway:
    """A service whose ledger says that it is away, or not."""

    def __init__(self, gateways: int = 3) -> None:
        self.away = True
        directory = ModelDirectory(("m",))
        directory.put("m", READY)
        self.service = Service(
            ServiceSettings(rate=RatePolicy(amount=6, period_s=60)),
            ledger=MemoryLedger(),
            directory=directory,
            metrics=Metrics(),
            ledger_is_up=lambda: not self.away,
            gateways=lambda: gateways,
        )

    async def admitted(self, tries: int) -> int:
        count = 0
        for _ in range(tries):
            with contextlib.suppress(LimitReached):
                await self.service.admit(CALLER, BODY)
                count += 1
        return count


@pytest.mark.parametrize(("gateways", "share"), [(1, 6), (3, 2), (100, 1), (0, 6)])
async def test_a_gateway_alone_takes_its_share(gateways: int, share: int, autojump_clock: MockClock) -> None:
    assert await Gateway(gateways).admitted(6) == share


async def test_with_the_ledger_back_the_limit_is_the_clusters_again(autojump_clock: MockClock) -> None:
    gateway = Gateway()
    assert await gateway.admitted(6) == 2
    gateway.away = False
    assert await gateway.admitted(6) == 4
