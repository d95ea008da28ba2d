"""Requests that the ledger hands to workers that have open slots, and what must not be handed out."""

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio

from llmactors.ledger import AppendEntry, AppendOutcome, Claim, LedgerSettings, News, ReleaseHow
from llmactors.ledger.redis import RedisLedger, RedisLedgerSettings
from llmactors.ledger.redis.workers import LocalWorker
from llmactors.messages import GenerateRequest
from llmactors.testing.ledger_suite import finished, request, tokens
from llmactors.testing.redis_server import RedisServer

pytestmark = pytest.mark.integration

STILL = RedisLedgerSettings(outage_s=1e6, gateway_lease_s=1e5, silence_s=3600.0, disconnect_grace_s=1e6)
LEASE_S = 10.0


@attrs.define
class Cluster:
    """A gateway and some workers, each with a ledger of its own."""

    server: RedisServer
    nursery: trio.Nursery
    gateway: RedisLedger = attrs.field(init=False)
    ledgers: dict[str, RedisLedger] = attrs.field(factory=dict)
    scopes: dict[str, trio.CancelScope] = attrs.field(factory=dict)
    now_ms: int = 1_750_000_000_000

    async def ledger(self, name: str) -> RedisLedger:
        """The ledger of one more process."""
        settings = LedgerSettings(lease_s=LEASE_S, affinity_wait_s=0.2)
        ledger = RedisLedger(self.server.url, settings, STILL, clock_ms=lambda: self.now_ms)
        self.scopes[name] = trio.CancelScope()
        await self.nursery.start(self._run, name, ledger)
        return ledger

    async def _run(self, name: str, ledger: RedisLedger, *, task_status: trio.TaskStatus[None]) -> None:
        with self.scopes[name]:
            await ledger.run(task_status=task_status)

    async def open(self, worker: str, slots: int) -> list[Claim]:
        """Has a worker claim, with open slots for what comes later."""
        if worker not in self.ledgers:
            self.ledgers[worker] = await self.ledger(worker)
        await self.ledgers[worker].beat(worker)
        return await self.ledgers[worker].claim(worker, "m", slots, hand_out=slots)

    async def submit(self, *ids: str, **fields: Any) -> None:
        for each in ids:
            await self.gateway.submit(request(each, **fields))

    async def handed(self, worker: str) -> list[str]:
        """The ids of what the worker was handed by now. What came before the answer to this call is known then."""
        await self.ledgers[worker].now_ms()
        return [claim.request.id for claim in self.ledgers[worker].handed(worker, "m")]

    async def state(self, request_id: str) -> str:
        return (await self.gateway.info(request_id)).state

    async def end(self, worker: str, request_id: str) -> AppendOutcome:
        epoch = (await self.gateway.info(request_id)).epoch
        [result] = await self.ledgers[worker].append([AppendEntry(request_id, epoch, 1, tokens(1, 1), finished(1))])
        return result.outcome


@pytest.fixture
async def cluster(any_server: RedisServer, nursery: trio.Nursery) -> AsyncIterator[Cluster]:
    with any_server.client() as client:
        client.flushall()
    made = Cluster(any_server, nursery)
    made.gateway = await made.ledger("gateway")
    yield made
    nursery.cancel_scope.cancel(reason="the test is over")


async def test_waiting_worker_gets_a_request_unasked(cluster: Cluster) -> None:
    assert await cluster.open("w", 2) == []
    worker = cluster.ledgers["w"]
    await cluster.submit("r1")
    with trio.fail_after(10):
        assert await worker.wait_work("w", "m") is News.HANDED
    [claim] = worker.handed("w", "m")
    assert claim.request == request("r1")
    assert (claim.attempt, claim.tokens, claim.quarantined) == (1, (), False)
    assert await cluster.state("r1") == "running"
    assert await cluster.end("w", "r1") is AppendOutcome.OK


async def test_no_more_is_handed_out_than_slots(cluster: Cluster) -> None:
    await cluster.open("w", 2)
    await cluster.submit("r1", "r2", "r3")
    assert await cluster.handed("w") == ["r1", "r2"]
    assert not cluster.ledgers["w"].has_open_slots("w", "m")
    assert await cluster.state("r3") == "queued"
    # No slot is open, so the end of a request opens none: the worker claims in fair order.
    await cluster.end("w", "r1")
    assert await cluster.handed("w") == []
    assert [each.request.id for each in await cluster.open("w", 1)] == ["r3"]


async def test_end_opens_its_slot_beside_open_ones(cluster: Cluster) -> None:
    await cluster.open("w", 2)
    await cluster.submit("r1")
    assert await cluster.end("w", "r1") is AppendOutcome.OK
    assert await cluster.end("w", "r1") is AppendOutcome.OK, "a repeated end"
    await cluster.submit("r2", "r3", "r4")
    assert await cluster.handed("w") == ["r1", "r2", "r3"]
    assert await cluster.state("r4") == "queued"


async def test_cancelled_request_keeps_its_slot_closed(cluster: Cluster) -> None:
    """The worker computes on until it hears of the cancel."""
    await cluster.open("w", 2)
    await cluster.submit("r1")
    await cluster.gateway.cancel("r1")
    await cluster.submit("r2", "r3")
    assert await cluster.handed("w") == ["r1", "r2"]


async def test_lost_message_is_made_good_by_a_claim(cluster: Cluster) -> None:
    await cluster.open("w", 2)
    worker = cluster.ledgers["w"]
    worker._workers.get("w").may_miss = True  # the message comes, and is lost here
    await cluster.submit("r1")
    assert await cluster.handed("w") == []
    assert [each.request.id for each in await cluster.open("w", 1)] == ["r1"], "it counts as one of the slots"
    await cluster.submit("r2")
    assert await cluster.handed("w") == []
    assert [each.request.id for each in await cluster.open("w", 1)] == ["r2"], "no claim is returned twice"


async def test_message_on_its_way_counts_as_a_slot(cluster: Cluster) -> None:
    """The worker claims for a slot while it is handed a request for that slot."""
    await cluster.open("w", 2)
    worker = cluster.ledgers["w"]
    await cluster.submit("r1")
    worker._workers.get("w").may_miss = True
    await cluster.submit("r2", "r3")
    assert [each.request.id for each in await cluster.open("w", 1)] == ["r1", "r2"]
    assert await cluster.state("r3") == "queued"


async def test_dead_worker_is_handed_nothing(cluster: Cluster) -> None:
    await cluster.open("w", 2)
    cluster.scopes["w"].cancel(reason="kill -9")
    with trio.fail_after(10):
        while (await cluster.gateway.link.call("PUBSUB", "NUMSUB", cluster.ledgers["w"]._inbox))[1]:
            await trio.lowlevel.checkpoint()
    await cluster.submit("r1")
    assert await cluster.state("r1") == "queued"


async def test_silent_worker_is_handed_nothing(cluster: Cluster) -> None:
    await cluster.open("w", 4)
    cluster.now_ms += round(LEASE_S * 600)
    await cluster.submit("r1")
    assert await cluster.state("r1") == "queued"
    assert [each.request.id for each in await cluster.open("w", 4)] == ["r1"]


@pytest.mark.parametrize("how", ["leave", "release", "close", "another way"])
async def test_worker_that_takes_none_is_handed_nothing(cluster: Cluster, how: str) -> None:
    await cluster.open("w", 2)
    worker = cluster.ledgers["w"]
    match how:
        case "leave":
            await worker.leave("w")
        case "release":
            await cluster.submit("r0")
            await cluster.handed("w")
            epoch = (await worker.info("r0")).epoch
            await worker.release("r0", epoch, ReleaseHow.SILENT, "the worker drains")
            assert await cluster.state("r0") == "queued", "handed back and handed out again"
        case "close":
            assert await worker.claim("w", "m", 0) == []
        case _:
            await worker.claim("w", "m", 2)
    assert not worker.has_open_slots("w", "m")
    await cluster.submit("r1")
    assert await cluster.state("r1") == "queued"


async def test_request_of_a_dead_worker_is_handed_on(cluster: Cluster) -> None:
    await cluster.open("w1", 1)
    await cluster.submit("r1")
    first = await cluster.gateway.info("r1")
    await cluster.open("w2", 1)
    [result] = await cluster.ledgers["w1"].append([AppendEntry("r1", first.epoch, 1, tokens(1, 2))])
    assert result.outcome is AppendOutcome.OK
    await cluster.ledgers["w1"].leave("w1")
    await cluster.ledgers["w2"].now_ms()
    [claim] = cluster.ledgers["w2"].handed("w2", "m")
    assert claim.epoch > first.epoch
    assert claim.tokens == tokens(1, 2)
    [late] = await cluster.ledgers["w1"].append([AppendEntry("r1", first.epoch, 3, tokens(3, 3))])
    assert late.outcome is AppendOutcome.FENCED


async def test_suspect_is_claimed_and_never_handed_out(cluster: Cluster) -> None:
    await cluster.submit("r1")
    await cluster.open("c1", 1)
    await cluster.ledgers["c1"].leave("c1")
    await cluster.open("c2", 1)
    await cluster.open("w", 2)
    await cluster.ledgers["c2"].leave("c2")
    assert await cluster.state("r1") == "queued"
    [claim] = await cluster.open("w", 2)
    assert claim.quarantined
    assert not cluster.ledgers["w"].has_open_slots("w", "m")
    await cluster.submit("r2")
    assert await cluster.state("r2") == "queued", "handed to a worker that runs a suspect"


async def test_late_answer_to_a_claim_begins_nothing_twice() -> None:
    """A request was handed out while the worker claimed, and the answer to the claim has it again."""
    worker = LocalWorker()
    handed = Claim(request("r1"), 5, 1, False, ())
    worker.hear("m", [(7, handed)], 1)
    assert worker.take_handed("m") == [handed]
    assert worker.answer("m", 6, [(7, handed)], 7, is_open=False) == []
    assert not worker.has_open_slots("m")
    later = Claim(request("r2"), 6, 1, False, ())
    worker.hear("m", [(9, later)], 1)
    assert worker.answer("m", 7, [], 8, is_open=False) == [later]
    assert worker.has_open_slots("m"), "the message is newer than the answer"


async def test_overdue_request_is_never_handed_out(cluster: Cluster) -> None:
    await cluster.open("w", 2)
    await cluster.submit("late", timeout_ms=0)
    await cluster.submit("r1")
    assert await cluster.handed("w") == ["r1"]
    assert await cluster.state("late") == "ended"


async def test_emptiest_worker_is_handed_the_next(cluster: Cluster) -> None:
    await cluster.open("w1", 2)
    await cluster.open("w2", 3)
    await cluster.submit("r1", "r2", "r3")
    assert len(await cluster.handed("w1")) == 1
    assert len(await cluster.handed("w2")) == 2


def follow_up(request_id: str, **fields: Any) -> GenerateRequest:
    return request(request_id, conversation="c", follows_up=True, **fields)


async def test_conversation_stays_with_its_worker(cluster: Cluster) -> None:
    await cluster.open("w1", 2)
    await cluster.gateway.submit(follow_up("r1"))
    assert await cluster.handed("w1") == ["r1"]
    await cluster.open("w2", 8)
    await cluster.gateway.submit(follow_up("r2"))
    assert await cluster.handed("w1") == ["r2"]
    await cluster.gateway.submit(follow_up("r3"))
    assert await cluster.handed("w2") == ["r3"], "the worker of the conversation has no open slot"


async def test_forgotten_offer_is_made_again_by_a_claim(cluster: Cluster) -> None:
    await cluster.open("w", 2)
    with cluster.server.client() as client:
        client.flushall()
    await cluster.submit("r1")
    assert await cluster.state("r1") == "queued"
    assert [each.request.id for each in await cluster.open("w", 2)] == ["r1"]
    await cluster.submit("r2")
    assert await cluster.handed("w") == ["r2"]
