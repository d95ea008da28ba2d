"""Many callers at once: clients that follow one request, and operators that requeue one dead letter."""

from collections.abc import AsyncIterator

import pytest
import trio

from llmactors.errors import NotFound
from llmactors.ledger import AppendEntry, QueueDepth, ReleaseHow, SubmitOutcome
from llmactors.ledger.redis import RedisLedger
from llmactors.messages import TokenDelta
from llmactors.testing.ledger_suite.rig import finished, request, tokens
from llmactors.testing.redis_server import RedisServer

pytestmark = pytest.mark.integration


@pytest.fixture
async def gateways(any_server: RedisServer, nursery: trio.Nursery) -> AsyncIterator[list[RedisLedger]]:
    client = any_server.client()
    client.flushall()
    client.close()
    ledgers = [RedisLedger(any_server.url) for _ in range(2)]
    for ledger in ledgers:
        await nursery.start(ledger.run)
    yield ledgers
    nursery.cancel_scope.cancel(reason="the test is over")


async def test_all_who_submit_one_request_can_follow_it(gateways: list[RedisLedger]) -> None:
    """At the second gateway, the callers share one copy of the log, whoever of them comes first."""
    outcomes: list[SubmitOutcome] = []
    heard: list[list[TokenDelta]] = []

    async def ask(ledger: RedisLedger, request_id: str) -> None:
        outcomes.append(await ledger.submit(request(request_id)))
        with await ledger.follow(request_id) as follower:
            await follower.wait_end()
            log = follower.take()
            assert log.end == finished(3)
            heard.append(list(log.deltas))

    first, second = gateways
    ids = [f"r{number}" for number in range(40)]
    with trio.fail_after(8):
        async with trio.open_nursery() as asking:
            for request_id in ids:
                for ledger in (first, second, second, second):
                    asking.start_soon(ask, ledger, request_id)
            while len(outcomes) < 4 * len(ids):  # noqa: ASYNC110 - what is waited for has no event to wait on
                await trio.sleep(0.01)
            await first.beat("w")
            claims = await first.claim("w", "m", len(ids))
            await first.append(
                [AppendEntry(claim.request.id, claim.epoch, 1, tokens(1, 3), finished(3)) for claim in claims]
            )
    assert outcomes.count(SubmitOutcome.ACCEPTED) == len(ids)
    assert outcomes.count(SubmitOutcome.DUPLICATE) == 3 * len(ids)
    assert heard == [list(tokens(1, 3))] * 4 * len(ids)


async def test_dead_letter_is_requeued_once_by_many_operators(gateways: list[RedisLedger]) -> None:
    """At each moment the request is a dead letter or queued, and never both."""
    first, second = gateways
    outcomes: list[SubmitOutcome | None] = []
    seen: list[tuple[int, int]] = []

    async def requeue(ledger: RedisLedger, new_id: str) -> None:
        try:
            outcomes.append(await ledger.requeue("r", new_id))
        except NotFound:
            outcomes.append(None)

    async def look() -> None:
        while len(outcomes) < 20:
            statistics = await first.statistics()
            seen.append((statistics.queued, statistics.dead_letters))

    await first.submit(request())
    await first.beat("w")
    [claim] = await first.claim("w", "m", 1)
    await first.release("r", claim.epoch, ReleaseHow.FATAL)
    with trio.fail_after(8):
        async with trio.open_nursery() as asking:
            asking.start_soon(look)
            for number in range(20):
                asking.start_soon(requeue, (first, second)[number % 2], f"new{number}")
    assert outcomes.count(SubmitOutcome.ACCEPTED) == 1
    assert outcomes.count(None) == 19
    assert await second.queue_depths() == [QueueDepth("m", 1, 1)]
    assert seen
    assert set(seen) <= {(0, 1), (1, 0)}
