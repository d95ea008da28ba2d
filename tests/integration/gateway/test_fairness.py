"""Ten tenants share a node fairly over HTTP, although one of them sends a hundred times the load of each other."""

from collections import Counter

import pytest
import trio

from llmactors.testing.event_socket import EventSocket
from llmactors.testing.node import local_node, mock_model, wait_until
from tests.conftest import Figures
from tests.integration.gateway.conftest import Tenants
from tests.support.fairness import jain

pytestmark = pytest.mark.integration

BIG, SMALL = "big", [f"small{each}" for each in range(9)]
AT_ONCE = 3
"""The number of open requests of each small tenant. The big tenant has a hundred times as many."""
ROUNDS = 12
TOKENS = 8


async def test_hundredfold_load_gets_no_larger_share(figures: Figures, tenants: Tenants) -> None:
    tenants.add(BIG, *SMALL)
    tokens: Counter[str] = Counter()
    at_start: Counter[str] = Counter()

    async def keep_asking(tenant: str) -> None:
        while True:
            body = {"prompt": tenant, "max_tokens": TOKENS}
            async with await EventSocket.open(
                node.url, "POST", "/v1/generate", body=body, headers=tenants.headers(tenant)
            ) as exchange:
                answer = await exchange.read_json()
            assert exchange.status == 200, answer
            tokens[tenant] += answer["usage"]["completion_tokens"]

    async with (
        local_node(mock_model("slots=4,step_ms=2"), keys=str(tenants.path)) as node,
        trio.open_nursery() as nursery,
    ):
        for _ in range(100 * AT_ONCE):
            nursery.start_soon(keep_asking, BIG)
        await wait_until(lambda: tokens[BIG] > 0)
        for tenant in SMALL * AT_ONCE:
            nursery.start_soon(keep_asking, tenant)
        await wait_until(lambda: all(tokens[tenant] for tenant in SMALL))
        at_start.update(tokens)
        await wait_until(lambda: sum(tokens.values()) >= at_start.total() + ROUNDS * TOKENS * 10, within_s=30)
        shares = {tenant: float(tokens[tenant] - at_start[tenant]) for tenant in (BIG, *SMALL)}
        nursery.cancel_scope.cancel(reason="all was seen")
    figures("fairness (Jain's index of ten tenants, one with 100x the load)", "over HTTP", jain(shares))
    assert jain(shares) >= 0.95, shares
