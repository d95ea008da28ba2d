"""What the ledger does when Redis forgets, is full, or was away, and when pushes and replies are lost."""

from collections.abc import AsyncIterator
from typing import Any

import attrs
import msgspec
import pytest
import structlog.testing
import trio

from llmactors import errors
from llmactors.ledger import AppendEntry, AppendOutcome, Claim, LedgerSettings, News, SlotOffer, SubmitOutcome
from llmactors.ledger.redis import RedisLedger, RedisLedgerSettings
from llmactors.ledger.redis.log_copies import DIVERGED
from llmactors.ledger.settings import TOKEN_BYTES
from llmactors.messages import ChatMessage, Failed, Finished, GenerateRequest, Image, TokenDelta, TokenExtra, Usage
from llmactors.redislink.names import LedgerKey
from llmactors.redislink.settings import LinkSettings
from llmactors.testing.ledger_suite import finished, request, tokens
from llmactors.testing.redis_server import RedisServer
from tests.support.ledger_keys import ledger_key_of

pytestmark = pytest.mark.integration

STILL = RedisLedgerSettings(
    outage_s=1e6, gateway_lease_s=1e5, silence_s=3600.0, disconnect_grace_s=1e6, call_timeout_s=20.0
)
"""Nothing happens by itself: a test says when logs are read."""


@attrs.define
class Cluster:
    """The ledgers of several processes, on one server whose state can be set back."""

    server: RedisServer
    nursery: trio.Nursery
    now_ms: int = 1_750_000_000_000
    older: dict[bytes, tuple[bytes, int]] = attrs.field(factory=dict)
    ledgers: list[RedisLedger] = attrs.field(factory=list)

    async def ledger(self, redis: RedisLedgerSettings = STILL, **settings: Any) -> RedisLedger:
        """The ledger of one more process."""
        ledger = RedisLedger(
            self.server.url,
            LedgerSettings(**{"lease_s": 1000.0, **settings}),
            redis,
            link_settings=LinkSettings(backoff_min_s=0.002, backoff_max_s=0.01),
            clock_ms=lambda: self.now_ms,
        )
        await self.nursery.start(ledger.run)
        self.ledgers.append(ledger)
        return ledger

    def remember(self) -> None:
        with self.server.client() as client:
            names = list(client.scan_iter())
            self.older = {name: (client.dump(name), max(0, client.pttl(name))) for name in names}

    async def forget(self, *, noticed: bool = True) -> None:
        """Sets the server back to the state at `remember`. All connections are new then, so all logs are compared."""
        with self.server.client() as client:
            client.flushall()
            for name, (value, ttl_ms) in self.older.items():
                client.restore(name, ttl_ms, value)
        if noticed:
            await self.hang_up()

    async def hang_up(self) -> None:
        before = [ledger.link.statistics().connects for ledger in self.ledgers]
        with self.server.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub", skipme=True)
        for ledger, connects in zip(self.ledgers, before, strict=True):
            while ledger.link.statistics().connects == connects:
                await ledger.link.wait_up()


@pytest.fixture
async def cluster(any_server: RedisServer, nursery: trio.Nursery) -> AsyncIterator[Cluster]:
    with any_server.client() as client:
        client.flushall()
    yield Cluster(any_server, nursery)
    nursery.cancel_scope.cancel(reason="the test is over")


async def take_one(ledger: RedisLedger, worker: str) -> Claim:
    await ledger.beat(worker)
    [claim] = await ledger.claim(worker, "m", 1)
    return claim


async def write(ledger: RedisLedger, claim: Claim, first: int, last: int, *, end: bool = False) -> AppendOutcome:
    terminal = finished(last) if end else None
    entry = AppendEntry(claim.request.id, claim.epoch, first, tokens(first, last), terminal)
    [result] = await ledger.append([entry])
    return result.outcome


async def heard(gateway: RedisLedger, seq: int) -> None:
    """Returns once the gateway has the log up to `seq`, without a follower."""
    copy = gateway.log_reader.copies.get("r")
    assert copy is not None
    while copy.last_seq < seq:
        await copy.wait_growth()


async def test_process_that_reads_no_log_sends_nothing(cluster: Cluster) -> None:
    """A worker and the standby of a gateway, which would otherwise call a function several times a second."""
    gateway, other = await cluster.ledger(), await cluster.ledger()
    await gateway.submit(request())
    before = [each.link.statistics().commands for each in (gateway, other)]
    for each in (gateway, other):
        await each.log_reader.sync()
    assert [each.link.statistics().commands for each in (gateway, other)] == [before[0] + 1, before[1]]


# Redis forgets.


async def test_forgotten_epoch_is_never_used_again(cluster: Cluster) -> None:
    gateway, w1, w2 = await cluster.ledger(), await cluster.ledger(), await cluster.ledger()
    await gateway.submit(request())
    cluster.remember()
    zombie = await take_one(w1, "w1")
    await cluster.forget()
    cluster.now_ms += 1
    await take_one(w2, "w2")
    assert await write(w1, zombie, 1, 1) is AppendOutcome.FENCED


async def test_forgotten_request_is_restored_with_its_tokens(cluster: Cluster) -> None:
    gateway, worker = await cluster.ledger(), await cluster.ledger()
    cluster.remember()
    await gateway.submit(request())
    with await gateway.follow("r") as follower:
        claim = await take_one(worker, "w")
        await write(worker, claim, 1, 3)
        await heard(gateway, 3)
        await cluster.forget()
        await gateway.log_reader.sync()
        assert await write(worker, claim, 4, 4) is not AppendOutcome.OK
        again = await take_one(worker, "w")
        assert again.tokens == tokens(1, 3)
        await write(worker, again, 4, 5, end=True)
        await follower.wait_end()
        taken = follower.take()
        assert (tuple(taken.deltas), taken.end) == (tokens(1, 5), finished(5))


async def test_forgotten_request_without_a_reader_is_restored(cluster: Cluster) -> None:
    """The client was told that the request was accepted, and may come back later."""
    gateway, worker = await cluster.ledger(), await cluster.ledger()
    cluster.remember()
    await gateway.submit(request())
    await cluster.forget()
    await gateway.log_reader.sync()
    assert (await take_one(worker, "w")).request == request()


async def test_pushes_do_not_keep_an_unread_copy(cluster: Cluster) -> None:
    """Otherwise the grace of the request would never begin."""
    gateway, worker = await cluster.ledger(), await cluster.ledger()
    await gateway.submit(request())
    claim = await take_one(worker, "w")
    await trio.sleep(0.05)
    await write(worker, claim, 1, 1)
    await heard(gateway, 1)
    gateway.log_reader.forget_unread(0.05)
    assert gateway.log_reader.copies.get("r") is None


async def test_log_that_lost_its_end_is_extended_from_the_copy(cluster: Cluster) -> None:
    gateway, worker = await cluster.ledger(), await cluster.ledger()
    await gateway.submit(request())
    with await gateway.follow("r"):
        claim = await take_one(worker, "w")
        await write(worker, claim, 1, 2)
        cluster.remember()
        await write(worker, claim, 3, 5)
        await heard(gateway, 5)
        await cluster.forget()
        await gateway.log_reader.sync()
        assert tuple((await worker.read("r")).deltas) == tokens(1, 5)
        # The worker has these tokens too, so it keeps its claim.
        assert await write(worker, claim, 6, 6) is AppendOutcome.OK


async def test_worker_behind_the_extended_log_loses_its_claim(cluster: Cluster) -> None:
    """Otherwise its next tokens would not continue the tokens that were sent."""
    gateway, w1, w2 = await cluster.ledger(), await cluster.ledger(), await cluster.ledger()
    await gateway.submit(request())
    with await gateway.follow("r"):
        first = await take_one(w1, "w1")
        await write(w1, first, 1, 2)
        cluster.remember()
        await w1.leave("w1")
        second = await take_one(w2, "w2")
        await write(w2, second, 3, 4)
        await heard(gateway, 4)
        await cluster.forget()  # w1 holds it again, and has never heard of 3 and 4
        await gateway.log_reader.sync()
        assert await write(w1, first, 3, 5) is AppendOutcome.FENCED
        again = await take_one(w2, "w2")
        assert again.tokens == tokens(1, 4)
        assert again.attempt == 1


async def test_changed_tokens_end_the_stream_as_diverged(cluster: Cluster) -> None:
    gateway, w1, w2 = await cluster.ledger(), await cluster.ledger(), await cluster.ledger()
    await gateway.submit(request())
    with await gateway.follow("r") as follower:
        cluster.remember()
        claim = await take_one(w1, "w1")
        await write(w1, claim, 1, 3)
        await heard(gateway, 3)
        await cluster.forget(noticed=False)
        other = await take_one(w2, "w2")
        await w2.append([AppendEntry("r", other.epoch, 1, tokens(11, 12))])
        await follower.wait_end()
        taken = follower.take()
        assert (tuple(taken.deltas), taken.end) == (tokens(1, 3), DIVERGED)


async def test_forgotten_end_puts_the_request_back(cluster: Cluster) -> None:
    gateway, worker = await cluster.ledger(), await cluster.ledger()
    await gateway.submit(request())
    claim = await take_one(worker, "w")
    cluster.remember()
    await write(worker, claim, 1, 2, end=True)
    await cluster.forget()
    assert (await gateway.info("r")).state == "running"
    for _ in range(2):
        await worker.beat("w")
    again = await take_one(worker, "w")
    assert (again.request.id, again.attempt) == ("r", 1)


# Pushes are hints.


async def test_missed_push_is_made_up_by_a_read(cluster: Cluster) -> None:
    impatient = attrs.evolve(STILL, silence_s=0.1)
    gateway, worker = await cluster.ledger(impatient), await cluster.ledger()
    await gateway.submit(request())
    with await gateway.follow("r") as follower:
        claim = await take_one(worker, "w")
        gateway.link._connection._on_push = lambda frame: None  # type: ignore[union-attr]
        await write(worker, claim, 1, 2, end=True)
        with trio.fail_after(5):
            await follower.wait_end()
        assert follower.take().end == finished(2)


async def test_one_push_per_step_for_many_streams(cluster: Cluster) -> None:
    gateway, worker = await cluster.ledger(), await cluster.ledger()
    pushes = 0
    hear = gateway._on_push

    def count(frame: list[Any]) -> None:
        nonlocal pushes
        pushes += frame[0] == b"message" and frame[1].endswith(gateway._inbox.encode())
        hear(frame)

    gateway.link._connection._on_push = count  # type: ignore[union-attr]
    for each in range(20):
        await gateway.submit(request(f"r{each}"))
    await worker.beat("w")
    claims = await worker.claim("w", "m", 20)
    before = worker.link.statistics().commands
    for seq in (1, 2, 3):
        await worker.append([AppendEntry(claim.request.id, claim.epoch, seq, tokens(seq, seq)) for claim in claims])
    await gateway.log_reader.sync()
    assert pushes == 3
    assert worker.link.statistics().commands - before <= 3 + 1  # a heartbeat of the link may be among them


async def test_late_reader_gets_pushes_until_it_leaves(cluster: Cluster) -> None:
    gateway, other, worker = await cluster.ledger(), await cluster.ledger(), await cluster.ledger()
    pushes = 0

    def count(frame: list[Any]) -> None:
        nonlocal pushes
        pushes += frame[0] == b"message" and frame[1].endswith(other._inbox.encode())

    await gateway.submit(request())
    claim = await take_one(worker, "w")
    await write(worker, claim, 1, 1)
    follower = await other.follow("r")
    other.link._connection._on_push = count  # type: ignore[union-attr]
    with follower:
        await write(worker, claim, 2, 2)
        await other.log_reader.sync()
        assert pushes == 1
    await other.log_reader.sync()
    await write(worker, claim, 3, 3)
    await other.log_reader.sync()
    assert pushes == 1


async def test_any_process_may_append_with_the_epoch(cluster: Cluster) -> None:
    """Entries of one request in one call are applied in order, also an end and what follows the end."""
    claimer, writer, gateway = await cluster.ledger(), await cluster.ledger(), await cluster.ledger()
    await gateway.submit(request())
    claim = await take_one(claimer, "w")
    await writer.append([AppendEntry("r", claim.epoch, 1, tokens(1, 1))])
    await claimer.append([AppendEntry("r", claim.epoch, 2, tokens(2, 2))])
    results = await claimer.append(
        [
            AppendEntry("r", claim.epoch, 3, tokens(3, 3)),
            AppendEntry("r", claim.epoch - 1, 4, tokens(4, 4)),
            AppendEntry("r", claim.epoch, 4, tokens(4, 4), finished(4)),
            AppendEntry("r", claim.epoch, 5, tokens(5, 5)),
        ]
    )
    outcomes = [result.outcome for result in results]
    assert outcomes == [AppendOutcome.OK, AppendOutcome.FENCED, AppendOutcome.OK, AppendOutcome.STOP]
    read = await gateway.read("r")
    assert ([*read.deltas], read.end) == ([*tokens(1, 4)], finished(4))


async def test_end_is_in_the_log_and_not_only_in_a_push(cluster: Cluster) -> None:
    gateway, worker = await cluster.ledger(), await cluster.ledger()
    await gateway.submit(request())
    await write(worker, await take_one(worker, "w"), 1, 2, end=True)
    with cluster.server.client() as client:
        entries: list[Any] = client.xrange(gateway.names.ledger(LedgerKey.LOG, "r"))
    assert [entry_id for entry_id, _ in entries] == [b"2-0", b"3-0"]
    assert [list(fields) for _, fields in entries] == [[b"t"], [b"e"]]


# Lost replies.


async def test_repeated_claim_call_claims_once(cluster: Cluster) -> None:
    gateway, worker = await cluster.ledger(), await cluster.ledger()
    for each in "ab":
        await gateway.submit(request(each))
    await worker.beat("w")
    parts = ("claim", "w", "m", 1, "the same nonce", 0, 0)
    (_, _, once), (_, _, twice) = await worker._functions.call(*parts), await worker._functions.call(*parts)
    assert once[0] == twice[0]
    assert (await gateway.info("a")).attempt == 1
    assert (await gateway.statistics()).queued == 1


async def test_claim_with_a_lost_reply_is_released(cluster: Cluster) -> None:
    gateway, worker = await cluster.ledger(), await cluster.ledger()
    await gateway.submit(request())
    await worker.beat("w")
    await worker._functions.call("claim", "w", "m", 1, "a nonce that nobody remembers", 0, 0)
    for _ in range(2):
        await worker.beat("w")
    assert (await take_one(worker, "w")).attempt == 1


async def test_cancelled_claim_is_forgotten_here_and_in_redis(cluster: Cluster) -> None:
    """The worker stops by what its beat says, and makes no further call for the request."""
    gateway, worker = await cluster.ledger(), await cluster.ledger()
    await gateway.submit(request())
    claim = await take_one(worker, "w")
    await gateway.cancel("r")
    assert (await worker.beat("w")).stop == (("r", claim.epoch),)
    assert worker._workers.get("w").held == set()


# Workers that disconnect, and outages.


async def test_disconnected_worker_loses_its_requests_early(cluster: Cluster) -> None:
    quick = attrs.evolve(STILL, disconnect_grace_s=0.4)
    gateway = await cluster.ledger(quick)
    async with trio.open_nursery() as process:
        worker = RedisLedger(cluster.server.url, LedgerSettings(lease_s=1000.0), quick, clock_ms=lambda: cluster.now_ms)
        await process.start(worker.run)
        await gateway.submit(request())
        await take_one(worker, "w")
        assert await gateway.reap() == 0
        process.cancel_scope.cancel(reason="killed")
    with trio.fail_after(5):
        while await gateway.reap() == 0:
            cluster.now_ms += 100
            await trio.sleep(0.01)
    assert (await gateway.info("r")).state == "queued"


async def test_worker_that_reconnects_keeps_its_requests(cluster: Cluster) -> None:
    quick = attrs.evolve(STILL, disconnect_grace_s=0.4)
    gateway, worker = await cluster.ledger(quick), await cluster.ledger(quick)
    await gateway.submit(request())
    claim = await take_one(worker, "w")
    for _ in range(3):
        await cluster.hang_up()
        assert await gateway.reap() == 0
        cluster.now_ms += 1000
    assert await write(worker, claim, 1, 1) is AppendOutcome.OK


async def test_outage_of_the_ledger_counts_against_nobody(cluster: Cluster) -> None:
    """Meanwhile no worker could renew its lease, and no client could come back."""
    watchful = attrs.evolve(STILL, outage_s=0.75)
    gateway, worker = await cluster.ledger(watchful, lease_s=5.0), await cluster.ledger(watchful, lease_s=5.0)
    await gateway.submit(request(resume_grace_ms=10_000))
    with await gateway.follow("r"):
        claim = await take_one(worker, "w")
    await gateway.log_reader.sync()
    await gateway.reap()
    cluster.now_ms += 60_000
    assert await gateway.reap() == 0
    assert (await worker.beat("w")).live
    assert await write(worker, claim, 1, 1) is AppendOutcome.OK
    for _ in range(21):
        cluster.now_ms += 500
        await worker.beat("w")
        await gateway.reap()
    assert (await gateway.read("r")).end == Finished("cancelled", Usage(0, 1))


async def test_stopped_gateway_still_counts_as_reader(cluster: Cluster) -> None:
    """A gateway is silent for long, and has not ended: its clients wait until it goes on."""
    short = attrs.evolve(STILL, gateway_lease_s=5.0)
    other = await cluster.ledger(short)
    async with trio.open_nursery() as process:
        stopped = RedisLedger(
            cluster.server.url, LedgerSettings(lease_s=1000.0), short, clock_ms=lambda: cluster.now_ms
        )
        await process.start(stopped.run)
        await stopped.submit(request(resume_grace_ms=10_000))
        with await stopped.follow("r"):
            for _ in range(10):
                cluster.now_ms += 7000
                assert await other.reap() == 0
            process.cancel_scope.cancel(reason="killed")
    with trio.fail_after(5):
        while (await other.info("r")).state != "ended":
            cluster.now_ms += 1000
            await other.reap()
            await trio.sleep(0.01)
    assert (await other.read("r")).end == Finished("cancelled", Usage(0, 0))


# A full Redis, and keys that expire.


async def test_full_redis_refuses_new_and_finishes_accepted(cluster: Cluster) -> None:
    gateway, worker = await cluster.ledger(), await cluster.ledger()
    await gateway.submit(request())
    claim = await take_one(worker, "w")
    with cluster.server.client() as client:
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(errors.Unavailable, match="no memory") as refused:
                await gateway.submit(request("more"))
            assert refused.value.retry_after_s is not None
            assert await write(worker, claim, 1, 2, end=True) is AppendOutcome.OK
        finally:
            client.config_set("maxmemory", "0")
    assert await gateway.submit(request("more")) is SubmitOutcome.ACCEPTED


async def test_stop_outlives_an_outage_as_leases_do(cluster: Cluster) -> None:
    """A request that makes no token is stopped by a beat alone, and would keep its slot for ever."""
    worker = await cluster.ledger(attrs.evolve(STILL, outage_s=1.0), lease_s=2.0)
    await worker.submit(request())
    claim = await take_one(worker, "w")
    await worker.cancel("r")
    cluster.now_ms += 30_000
    beat = await worker.beat("w")
    assert (beat.live, beat.stop) == (True, (("r", claim.epoch),))


async def test_full_redis_takes_a_lost_connection_back(cluster: Cluster) -> None:
    """A full server refuses to load functions, also those that it has."""
    worker = await cluster.ledger()
    await worker.submit(request())
    claim = await take_one(worker, "w")
    with cluster.server.client() as client:
        client.config_set("maxmemory", "1")
        try:
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub", skipme=True)
            with trio.fail_after(5):
                assert await write(worker, claim, 1, 2, end=True) is AppendOutcome.OK
        finally:
            client.config_set("maxmemory", "0")


async def test_keys_expire_and_ended_requests_leave_tombstones(cluster: Cluster) -> None:
    gateway, worker = await cluster.ledger(), await cluster.ledger()
    await worker.beat("w")
    for each in range(8):
        tenant = f"t{each % 3}"
        await gateway.submit(request(f"r{each}", tenant=tenant, priority=each % 2, deadline_ms=cluster.now_ms + 10**6))
    claims = await worker.claim("w", "m", 6)
    for claim in claims[:4]:
        await write(worker, claim, 1, 3, end=True)
    await gateway.cancel(claims[4].request.id)
    with cluster.server.client() as client:
        assert [name for name in client.scan_iter() if client.pttl(name) < 0] == []
        await gateway.cancel(claims[5].request.id)
        for each in range(8):
            await gateway.cancel(f"r{each}")
        await worker.leave("w")
        cluster.now_ms += 60_001
        await gateway.reap()
        kinds = {ledger_key_of(gateway.names, name) for name in client.scan_iter()}
        usage = {LedgerKey.USAGE_RECORDS, LedgerKey.USAGE_SUMS}
        assert kinds <= {LedgerKey.COUNTERS, LedgerKey.DEAD_WORKERS, LedgerKey.GATEWAYS, LedgerKey.GONE} | usage
        assert [name for name in client.scan_iter() if client.pttl(name) < 0] == []


async def test_flushed_functions_are_loaded_again(cluster: Cluster) -> None:
    gateway = await cluster.ledger()
    with cluster.server.client() as client:
        client.function_flush()
    assert await gateway.submit(request()) is SubmitOutcome.ACCEPTED


async def test_nodes_of_another_format_have_their_own_ledger(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    old = await cluster.ledger()
    monkeypatch.setattr("llmactors.redislink.names.LEDGER_FORMAT", 1000)
    new = await cluster.ledger()
    for ledger in (old, new):
        assert await ledger.submit(request()) is SubmitOutcome.ACCEPTED
    for ledger in (old, new):
        assert (await take_one(ledger, "w")).attempt == 1
        assert (await ledger.statistics()).running == 1


async def test_text_that_is_not_unicode_is_kept(cluster: Cluster) -> None:
    gateway, worker = await cluster.ledger(), await cluster.ledger()
    await gateway.submit(request())
    claim = await take_one(worker, "w")
    [delta] = tokens(1, 1)
    broken = msgspec.structs.replace(delta, text="\ud83d")
    await worker.append([AppendEntry("r", claim.epoch, 1, (broken, delta))])
    assert list((await gateway.read("r")).deltas) == [broken, delta]
    with pytest.raises(errors.InvalidRequest):
        await gateway.submit(GenerateRequest("s", "m", "\ud83d"))


# Without faults.


async def test_waiting_worker_is_woken_at_once(cluster: Cluster) -> None:
    patient = attrs.evolve(STILL, look_for_work_s=3600.0)
    gateway, worker = await cluster.ledger(), await cluster.ledger(patient)
    await worker.beat("w")
    assert await worker.claim("w", "m", 2) == []
    heard: list[News] = []

    async def wait() -> None:
        heard.append(await worker.wait_work("w", "m"))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await gateway.submit(request())
    assert len(await worker.claim("w", "m", 2)) == 1
    assert heard == [News.WORK]


async def test_wait_without_news_says_so(cluster: Cluster) -> None:
    worker = await cluster.ledger(attrs.evolve(STILL, look_for_work_s=0.02))
    await worker.beat("w")
    assert await worker.wait_work("w", "m"), "the first wait may have missed news"
    assert not await worker.wait_work("w", "m")


async def test_only_logs_beyond_the_bound_are_evicted(cluster: Cluster) -> None:
    ledger = await cluster.ledger(retained_tokens_max=9)
    await ledger.beat("w")
    for name in ("r0", "r1", "r2"):
        await ledger.submit(request(name))
    entries = [
        AppendEntry(claim.request.id, claim.epoch, 1, tokens(1, 4), finished(4))
        for claim in await ledger.claim("w", "m", 3)
    ]
    await ledger.append(entries)

    assert await ledger.reap() == 1
    with pytest.raises(errors.Expired):
        await ledger.read("r0")
    assert (await ledger.read("r1")).end == finished(4)
    assert (await ledger.statistics()).log_tokens == 8


async def test_bound_on_tokens_counts_the_bytes_that_they_carry(cluster: Cluster) -> None:
    ledger = await cluster.ledger(retained_tokens_max=1000)
    await ledger.beat("w")
    for name in ("r0", "r1", "r2", "r3"):
        await ledger.submit(request(name))
    large = TokenExtra(embedding=bytes(200 * TOKEN_BYTES))
    for claim in await ledger.claim("w", "m", 4):
        for seq, end in ((1, None), (2, finished(2))):
            await ledger.append([AppendEntry(claim.request.id, claim.epoch, seq, [TokenDelta(1, "x", large)], end)])

    assert await ledger.reap() == 2
    assert (await ledger.read("r2")).end == finished(2)
    assert (await ledger.statistics()).log_tokens == 4
    assert await ledger.reap() == 0


async def test_bound_on_tokens_counts_the_bytes_of_requests(cluster: Cluster) -> None:
    ledger = await cluster.ledger(retained_tokens_max=1000)
    await ledger.beat("w")
    for name in ("r0", "r1", "r2", "r3"):
        await ledger.submit(request(name, prompt="x" * 400 * TOKEN_BYTES))
    for claim in await ledger.claim("w", "m", 4):
        await ledger.append([AppendEntry(claim.request.id, claim.epoch, 1, tokens(1, 4), finished(4))])

    assert await ledger.reap() == 2
    assert (await ledger.read("r2")).end == finished(4)
    assert await ledger.reap() == 0


async def test_one_claim_hands_out_a_bounded_number_of_bytes(cluster: Cluster) -> None:
    gateway, worker = await cluster.ledger(), await cluster.ledger(STILL)
    await worker.beat("w")
    for number, size in enumerate((3, 3, 3, 16, 1)):
        await gateway.submit(with_image(f"r{number}", size * 2**20))
    for claimed in (3, 1, 1):
        with trio.fail_after(10):
            await worker.wait_work("w", "m")
            assert len(await worker.claim("w", "m", 8)) == claimed


# Somebody else writes to a key of one request.


@pytest.mark.parametrize("kind", [LedgerKey.REQUEST, LedgerKey.BODY, LedgerKey.LOG])
async def test_key_of_another_type_costs_its_request_alone(
    cluster: Cluster, kind: LedgerKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmactors.ledger.redis.ledger._WRONG_TYPE_S", 0.1)
    gateway = await cluster.ledger(attrs.evolve(STILL, silence_s=0.01))
    worker, other = await cluster.ledger(), await cluster.ledger()
    for name in ("bad", "good", "late"):
        await gateway.submit(request(name))
    with await gateway.follow("bad") as bad, await gateway.follow("good") as good:
        await worker.beat("w1")
        claims = await worker.claim("w1", "m", 2)
        with structlog.testing.capture_logs() as lines:
            await worker.append([AppendEntry(each.request.id, each.epoch, 1, tokens(1, 1)) for each in claims])
            key = poison(cluster, kind, "bad")
            entries = [AppendEntry(each.request.id, each.epoch, 2, tokens(2, 2)) for each in claims]
            assert (await worker.append(entries))[1].outcome is AppendOutcome.OK
            # The worker dies. Its requests go to another worker, but for the one that cannot be read.
            await worker.leave("w1")
            await gateway.reap()
            await other.beat("w2")
            claims = await other.claim("w2", "m", 3)
            assert [claim.request.id for claim in claims] == ["good", "late"]
            await write(other, claims[0], 3, 3, end=True)
            await good.wait_end()
            assert good.take().end == finished(3)
            await bad.wait_end()
        end = bad.take().end
    assert isinstance(end, Failed)
    assert end == Failed("INTERNAL", "the ledger cannot read this request", end.usage)
    told = [line["key"] for line in lines if "another type" in line["event"]]
    assert set(told) == {key}


@pytest.mark.parametrize(
    ("due", "kind"),
    [
        ("deadline", LedgerKey.REQUEST),
        ("deadline", LedgerKey.LOG),
        ("reader", LedgerKey.REQUEST),
        ("reader", LedgerKey.LOG),
        ("retention", LedgerKey.REQUEST),
    ],
)
async def test_reaping_goes_on_beside_a_key_of_another_type(cluster: Cluster, kind: LedgerKey, due: str) -> None:
    ledger = await cluster.ledger(lease_s=1e6, retention_s=1.0)
    fields: dict[str, Any] = {"timeout_ms": 50} if due == "deadline" else {"resume_grace_ms": 50}
    names = ("bad", "good", "fine")
    for name in names:
        await ledger.submit(request(name, **fields))
    await ledger.beat("w")
    for claim in await ledger.claim("w", "m", 3):
        await write(ledger, claim, 1, 1, end=due == "retention")
    if due == "reader":
        ledger.log_reader.forget_unread(0.0)
        await ledger.log_reader.sync()
    key = poison(cluster, kind, "bad")
    cluster.now_ms += 100_000
    with structlog.testing.capture_logs() as lines:
        assert await ledger.reap() >= 2
    for name in names[1:]:
        if due == "retention":
            with pytest.raises(errors.Expired):
                await ledger.info(name)
        else:
            assert (await ledger.info(name)).state == "ended"
    assert [line["key"] for line in lines if "another type" in line["event"]] == [key]


@pytest.mark.parametrize("kind", [LedgerKey.WORKER, LedgerKey.HELD, None], ids=str)
async def test_preferred_worker_keeps_no_request_in_a_fault(cluster: Cluster, kind: LedgerKey | None) -> None:
    """A key of the preferred worker has another type, or the clock is set back by an hour."""
    ledger = await cluster.ledger(affinity_wait_s=10.0)
    await ledger.beat("w1")
    await ledger.beat("w2")
    await ledger.submit(request("first", conversation="c" * 16))
    assert len(await ledger.claim("w1", "m", 4)) == 1
    await ledger.submit(request("next", conversation="c" * 16, follows_up=True))
    assert await ledger.claim("w2", "m", 1) == []
    if kind is None:
        cluster.now_ms -= 3_600_000
    else:
        poison(cluster, kind, "w1")
    with trio.fail_after(10):
        assert [claim.request.id for claim in await ledger.claim("w2", "m", 1)] == ["next"]


async def test_clock_that_is_set_back_stops_no_preemption(cluster: Cluster) -> None:
    ledger = await cluster.ledger(preempt_after_s=0.5)
    await ledger.beat("w")
    for name in ("slow1", "slow2"):
        await ledger.submit(request(name, priority=2))
    running = [SlotOffer(claim.request.id, claim.epoch, 0) for claim in await ledger.claim("w", "m", 2)]
    for name, set_back_ms in (("urgent1", 0), ("urgent2", 3_600_000)):
        cluster.now_ms -= set_back_ms
        await ledger.submit(request(name, priority=0))
        cluster.now_ms += 600
        swap = await ledger.preempt("w", "m", running)
        assert swap is not None
        assert swap.claim.request.id == name
        running = [each for each in running if each.request_id != swap.given_up[0]]


@pytest.mark.parametrize("forgotten", [True, False])
async def test_demand_counts_a_request_that_cannot_be_read(cluster: Cluster, *, forgotten: bool) -> None:
    ledger = await cluster.ledger()
    for name in ("bad", "good"):
        await ledger.submit(request(name))
    key = poison(cluster, LedgerKey.REQUEST, "bad")
    if forgotten:
        with cluster.server.client() as client:
            client.delete(key)
    cluster.now_ms += 1000
    with trio.fail_after(10):
        assert [(each.model, each.waiting) for each in await ledger.demand(["m"])] == [("m", 2)]


def with_image(request_id: str, length: int) -> GenerateRequest:
    """A request whose one image has a URL of `length` characters."""
    image = Image("data:image/png;base64,".ljust(length, "A"), 0)
    return request(request_id, prompt="", messages=(ChatMessage("user", "", images=(image,)),))


def poison(cluster: Cluster, kind: LedgerKey, request_id: str) -> str:
    """Puts a value of another type in the place of a key of one request. Returns the name of the key."""
    name = cluster.ledgers[0].names.ledger(kind, request_id)
    with cluster.server.client() as client:
        client.delete(name)
        client.lpush(name, "x")
    return name
