"""Shares of tenants and priority classes, in both ledgers: by tokens and by weight, and no class starves."""

import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import trio

from llmactors.ledger import Ledger, LedgerSettings, MemoryLedger, SubmitOutcome
from llmactors.ledger.core.class_queue import PASSED_OVER_MAX
from llmactors.ledger.redis import RedisLedger
from llmactors.messages import GenerateRequest
from llmactors.testing.ledger_suite.rig import finished, request
from llmactors.testing.redis_server import RedisServer
from tests.conftest import Figures
from tests.support.fairness import jain

pytestmark = pytest.mark.integration

BIG, SMALL = "big", [f"small{each}" for each in range(9)]
OFFERED = 12
"""Requests of each small tenant; the big tenant has a hundred times as many."""
SETTINGS = LedgerSettings(max_queued=5000, lease_s=60.0)


@pytest.fixture(params=["memory", "redis"])
async def ledger(
    request: pytest.FixtureRequest, any_server: RedisServer, nursery: trio.Nursery
) -> AsyncIterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger(SETTINGS)
        return
    client = any_server.client()
    client.flushall()
    client.close()
    made = RedisLedger(any_server.url, SETTINGS)
    await nursery.start(made.run)
    yield made
    nursery.cancel_scope.cancel(reason="the test is over")


async def submit(ledger: Ledger, requests: Sequence[GenerateRequest]) -> None:
    async def one(each: GenerateRequest) -> None:
        assert await ledger.submit(each) is SubmitOutcome.ACCEPTED

    async with trio.open_nursery() as nursery:
        for each in requests:
            nursery.start_soon(one, each)


async def serve(
    ledger: Ledger, requests: Sequence[GenerateRequest], flow: Callable[[GenerateRequest], str]
) -> list[GenerateRequest]:
    """The requests in the order of service, while each flow still has requests that wait."""
    await ledger.beat("w")
    waiting = Counter(map(flow, requests))
    served: list[GenerateRequest] = []
    while min(waiting.values()) > 0:
        for claim in await ledger.claim("w", "m", 1):
            served.append(claim.request)
            waiting[flow(claim.request)] -= 1
            await ledger.finish(claim.request.id, claim.epoch, finished(0))
    return served


async def test_hundredfold_load_gets_no_larger_share(ledger: Ledger, figures: Figures) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    tenants = [*SMALL * OFFERED, *[BIG] * OFFERED * 100]
    rng.shuffle(tenants)
    requests = [
        request(f"r{number}", tenant=tenant, max_tokens=rng.choice((16, 32, 64, 96)))
        for number, tenant in enumerate(tenants)
    ]
    await submit(ledger, requests)
    tokens: Counter[str] = Counter()
    for each in await serve(ledger, requests, lambda each: each.tenant):
        tokens[each.tenant] += each.max_tokens
    figures("fairness (Jain's index of ten tenants, one with 100x the load)", type(ledger).__name__, jain(tokens))
    assert len(tokens) == 10
    assert jain(tokens) >= 0.95, (seed, tokens)


async def test_shares_follow_the_weights(ledger: Ledger, figures: Figures) -> None:
    weights = {"one": 1.0, "two": 2.0, "four": 4.0}
    requests = [
        request(f"{tenant}{number}", tenant=tenant, weight=weight, max_tokens=50)
        for tenant, weight in weights.items()
        for number in range(60)
    ]
    await submit(ledger, requests)
    served = Counter(each.tenant for each in await serve(ledger, requests, lambda each: each.tenant))
    per_weight = {tenant: served[tenant] / weight for tenant, weight in weights.items()}
    figures("shares of weights 1:2:4, in requests", type(ledger).__name__, dict(served))
    assert max(per_weight.values()) - min(per_weight.values()) <= 1.0, served


async def test_urgent_class_gets_most_and_none_starves(ledger: Ledger, figures: Figures) -> None:
    requests = [request(f"r{number}", priority=number % 3, max_tokens=8) for number in range(450)]
    await submit(ledger, requests)
    served = [each.priority for each in await serve(ledger, requests, lambda each: str(each.priority))]
    count = Counter(served)
    figures("classes served while all wait", type(ledger).__name__, dict(sorted(count.items())))
    assert count[0] > 5 * count[1] > 0
    for late in (1, 2):
        turns = [0, *(turn for turn, priority in enumerate(served, 1) if priority == late)]
        assert len(turns) > 5
        assert max(later - earlier for earlier, later in itertools.pairwise(turns)) <= PASSED_OVER_MAX + 2
