"""A ledger over three shards of a real Redis Cluster, and a failover in the middle of streams: `just test-shards`."""

import contextlib
from collections.abc import Iterator

import attrs
import pytest
import trio

from llmactors.config import Settings
from llmactors.http.request_id import new_request_id
from llmactors.ledger import AppendEntry, AppendOutcome, Claim, LedgerSettings
from llmactors.ledger.redis import LEDGER_LINK
from llmactors.messages import TokenDelta
from llmactors.redislink.slots import slot_of
from llmactors.system.ledger_shards import LedgerShards
from llmactors.testing.ledger_suite import finished, request, tokens
from tests.support.redis_cluster import RedisCluster, redis_cluster

pytestmark = [pytest.mark.integration, pytest.mark.shards, pytest.mark.timeout(180)]

STREAMS = 12
TOKENS = 40


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with redis_cluster() as running:
        yield running


def shards_of(cluster: RedisCluster) -> LedgerShards:
    link = attrs.evolve(LEDGER_LINK, starts_without_server=True)
    bounds = LedgerSettings(lease_s=20.0)
    return LedgerShards(Settings(redis=cluster.url), bounds, name="test", link_settings=link)


async def stream(shards: LedgerShards, claim: Claim, written: trio.Semaphore) -> None:
    """A worker that appends one token after the other. It writes again what the ledger says it lacks."""
    seq = 1
    while seq <= TOKENS:
        end = finished(TOKENS) if seq == TOKENS else None
        entry = AppendEntry(claim.request.id, claim.epoch, seq, tokens(seq, seq), end)
        [result] = await shards.whole.append([entry])
        if result.outcome is AppendOutcome.GAP:
            seq = result.next_seq
            continue
        assert result.outcome is AppendOutcome.OK
        seq += 1
        written.release()
        await trio.sleep(0.1)


async def test_each_shard_is_on_a_master_of_its_own(cluster: RedisCluster, nursery: trio.Nursery) -> None:
    shards = shards_of(cluster)
    await nursery.start(shards.run)
    masters = {cluster.master_of(slot_of(part.names.namespace)).port for part in shards.parts}
    assert len(masters) == 3
    nursery.cancel_scope.cancel(reason="the test is over")


async def test_streams_go_on_after_a_failover(cluster: RedisCluster, nursery: trio.Nursery) -> None:
    """A master dies in the middle of streams: no token is lost or comes twice."""
    shards = shards_of(cluster)
    ledger, placement = shards.whole, shards.placement
    assert placement is not None
    await nursery.start(shards.run)
    for number in range(STREAMS):
        await ledger.submit(request(placement.moved(new_request_id(), number % 3)))
    await ledger.beat("w#1")
    claims = await ledger.claim("w#1", "m", STREAMS)
    assert len(claims) == STREAMS
    victim = cluster.master_of(slot_of(shards.parts[1].names.namespace))
    written = trio.Semaphore(0)
    ended: set[str] = set()

    async def read(request_id: str) -> None:
        with await ledger.follow(request_id) as follower:
            seen: list[TokenDelta] = []
            while True:
                await follower.wait_more()
                taken = follower.take()
                seen += taken.deltas
                if taken.end is not None:
                    break
        assert seen == list(tokens(1, TOKENS))
        assert taken.end == finished(TOKENS)
        ended.add(request_id)

    with trio.fail_after(90):
        async with trio.open_nursery() as streams:
            for claim in claims:
                streams.start_soon(stream, shards, claim, written)
                streams.start_soon(read, claim.request.id)
            for _ in range(STREAMS * 5):
                await written.acquire()
            await trio.to_thread.run_sync(victim.kill)
    assert len(ended) == STREAMS
    assert cluster.master_of(slot_of(shards.parts[1].names.namespace)) is not victim
    await trio.to_thread.run_sync(victim.start)
    nursery.cancel_scope.cancel(reason="the test is over")


async def test_slot_that_moves_is_followed(cluster: RedisCluster, nursery: trio.Nursery) -> None:
    """An operator moves a shard's slot to another master: the shard waits until it has moved, and goes on there."""
    with trio.fail_after(60):
        await trio.to_thread.run_sync(cluster.wait_whole)
    shards = shards_of(cluster)
    ledger, placement = shards.whole, shards.placement
    assert placement is not None
    await nursery.start(shards.run)
    request_id = placement.moved(new_request_id(), 2)
    await ledger.submit(request(request_id))
    slot = slot_of(shards.parts[2].names.namespace)
    source, target = cluster.master_of(slot), cluster.master_of(slot_of(shards.parts[0].names.namespace))

    def move() -> None:
        with source.client() as old, target.client() as new, contextlib.ExitStack() as others:
            names = {source.port: old.execute_command("CLUSTER MYID"), target.port: new.execute_command("CLUSTER MYID")}
            new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[source.port])
            old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[target.port])
            while keys := old.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
                old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            for each in cluster.servers:
                client = others.enter_context(each.client())
                if client.info("replication")["role"] == "master":
                    client.execute_command("CLUSTER SETSLOT", slot, "NODE", names[target.port])

    await trio.to_thread.run_sync(move)
    with trio.fail_after(20):
        await ledger.beat("w#2")
        while True:
            claims = await ledger.claim("w#2", "m", 3)
            if claims:
                break
            await trio.sleep(0.1)
            await ledger.beat("w#2")
    assert [claim.request.id for claim in claims] == [request_id]
    assert (await ledger.info(request_id)).state == "running"
    nursery.cancel_scope.cancel(reason="the test is over")
