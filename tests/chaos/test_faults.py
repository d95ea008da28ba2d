"""Each fault alone, and several together, under a load of more than fifty streams lose and repeat no token."""

import contextlib
from pathlib import Path

import pytest
import trio

from llmactors.testing import nemeses
from llmactors.testing.cluster import ClusterSettings
from llmactors.testing.event_socket import EventSocket
from llmactors.testing.nemeses import strike_repeatedly
from tests.chaos.order import Monitor
from tests.chaos.runs import Chaos

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.timeout(100)]

APART_S = 1.8
"""Longer than a whole request with a takeover takes: see `runs.TOKENS`."""
BEYOND_LEASE_S = (2.0, 3.0)


async def test_killed_processes_lose_nothing(chaos: Chaos) -> None:
    async with chaos.run(share=0.35) as run:
        worker, gateway = nemeses.KillWorker(run.cluster), nemeses.KillGateway(run.cluster)
        await run.strike([(worker, 4, APART_S + 0.4), (gateway, 2, 1.5)])
    assert worker.count >= 4
    assert gateway.count >= 2
    # Clients whose gateway was killed reconnected.
    assert run.report.reconnects > 0
    chaos.note_gaps(run, "a worker was killed", worker)
    chaos.note_gaps(run, "a gateway was killed", gateway)


async def test_frozen_processes_write_nothing_late(chaos: Chaos, tmp_path: Path) -> None:
    """The recording of Redis shows that late appends came, and that none of them wrote to a log."""
    # Ended requests are deleted soon in this run, so that the end of the block can check that Redis is empty.
    async with chaos.run(ClusterSettings(settings={"retention_s": 5}), share=0.15) as run:
        worker = nemeses.FreezeWorker(run.cluster, min_s=BEYOND_LEASE_S[0], max_s=BEYOND_LEASE_S[1])
        gateway = nemeses.FreezeGateway(run.cluster, min_s=0.5, max_s=2.0)
        short = nemeses.FreezeWorker(run.cluster, min_s=0.2, max_s=1.0)
        with Monitor(run.cluster.redis.port, tmp_path / "monitor") as monitor:
            run.add(worker)
            # A thawed worker may learn that its lease is lost before it writes, so the fault is repeated a few times.
            for strike in range(8):
                await worker.strike(run.rng)
                await trio.sleep(APART_S)
                if strike and run.counter("fenced_total"):
                    break
        fenced = run.counter("fenced_total")
        await run.strike([(worker, 1, APART_S), (gateway, 2, 1.0), (short, 1, 1.0)])
    order = await trio.to_thread.run_sync(monitor.order)
    chaos.tally.notes.append(
        f"as the server saw it while workers froze and thawed: {order.written:,} entries written, {order.late} late "
        f"appends fenced, {len(order.violations)} written under an epoch that was over"
    )
    assert not order.violations
    assert order.written > 1000
    assert order.claims > 100
    assert order.late > 0
    assert fenced > 0
    chaos.note_gaps(run, "a worker froze for longer than its lease of 1.5 s", worker)


async def test_faulty_redis_server_loses_nothing(chaos: Chaos) -> None:
    async with chaos.run(share=0.15) as run:
        cluster = run.cluster
        await run.strike(
            [
                (nemeses.KillRedis(cluster, min_s=0.1, max_s=1.0), 3, 0.8),
                (nemeses.FreezeRedis(cluster, min_s=0.5, max_s=2.0), 2, 0.8),
                (nemeses.ClientKill(cluster), 4, 0.6),
                (nemeses.ClientPause(cluster, min_s=0.3, max_s=1.5), 2, 0.8),
                (nemeses.FillMemory(cluster, min_s=0.5, max_s=1.5), 2, 0.8),
            ]
        )
    assert any(refusal.startswith("503") for refusal in run.report.refused)


async def test_faulty_network_loses_nothing(chaos: Chaos) -> None:
    async with chaos.run(ClusterSettings(proxied=True), share=0.1) as run:
        cluster = run.cluster
        await run.strike(
            [
                (nemeses.ProxyCut(cluster), 5, 0.6),
                (nemeses.ProxyLoseReplies(cluster), 6, 0.6),
                (nemeses.ProxyBlackHole(cluster, min_s=0.5, max_s=2.0), 3, APART_S),
                (nemeses.ProxyDelay(cluster, min_s=0.5, max_s=1.5), 2, 0.3),
                (nemeses.ProxyRefuse(cluster, min_s=0.3, max_s=0.9), 2, APART_S),
            ]
        )


async def test_overlapping_faults_lose_nothing(chaos: Chaos) -> None:
    async with chaos.run(ClusterSettings(proxied=True), share=0.25) as run:
        cluster = run.cluster
        # These faults take requests from a worker, so only one of them strikes at a time: see `runs.TOKENS`.
        taking = [
            nemeses.KillWorker(cluster),
            nemeses.KillWorker(cluster),
            nemeses.FreezeWorker(cluster, min_s=0.5, max_s=3.0),
        ]
        others: list[nemeses.Nemesis] = [
            nemeses.KillGateway(cluster),
            nemeses.KillRedis(cluster, min_s=0.1, max_s=0.6),
            nemeses.FreezeGateway(cluster, min_s=0.3, max_s=1.0),
            nemeses.ClientKill(cluster),
            nemeses.ProxyLoseReplies(cluster),
            nemeses.ProxyCut(cluster),
            nemeses.ProxyDelay(cluster, min_s=0.3, max_s=1.0),
        ]
        run.add(*taking, *others)
        until = max(15.0, run.budget_s)
        async with trio.open_nursery() as nursery:

            async def strike(some: list[nemeses.Nemesis], every_s: float) -> None:
                await strike_repeatedly(some, run.rng, every_s=every_s, until=until, overlap=False)

            nursery.start_soon(strike, list(taking), 2.8)
            nursery.start_soon(strike, others, 1.2)
    assert sum(run.report.strikes.values()) >= 6


async def test_streams_pause_and_resume_over_a_redis_outage(chaos: Chaos) -> None:
    """New requests are refused with `Retry-After` meanwhile."""
    away_s = 20.0 if chaos.is_long else 6.0
    async with chaos.run() as run:
        async with run.cluster.redis_lock:
            await trio.to_thread.run_sync(run.cluster.redis.kill)
            try:
                await trio.sleep(0.5)
                open_then = [request for request in run.load.history.requests if not request.ends]
                had = [len(request.tokens) for request in open_then]
                status, headers = await _ask_anew(run.cluster.gateway_urls[0])
                assert status == 503
                assert int(headers["retry-after"]) >= 1
                await trio.sleep(away_s - 0.5)
                assert [len(request.tokens) for request in open_then] == had
                assert not any(request.ends for request in open_then)
            finally:
                await trio.to_thread.run_sync(run.cluster.redis.start)
        await run.wait_flowing()
    assert len(open_then) >= 50
    assert all(request.ends[0].name == "done" for request in open_then)
    assert all(code == "503 UNAVAILABLE" for code in run.report.refused)
    chaos.tally.notes.append(
        f"redis away for {away_s:.0f} s: {len(open_then)} streams paused and went on, "
        f"{run.report.refused.total():,} new requests got 503 with Retry-After"
    )


async def _ask_anew(url: str) -> tuple[int, dict[str, str]]:
    with trio.fail_after(8):
        exchange = await EventSocket.open(url, "POST", "/v1/generate", body={"prompt": "anew", "stream": True})
        async with exchange:
            return exchange.status, dict(exchange.headers)


async def test_clients_of_a_lost_gateway_resume_at_another(chaos: Chaos) -> None:
    """All of them continue after the last event that they saw."""
    async with chaos.run() as run:
        gone, other = run.cluster.gateways
        gone.kept_up = False
        gone.kill()
        await run.wait_flowing()
        assert not gone.alive
        assert other.starts == 1
        with contextlib.suppress(StopIteration):
            gone.kept_up = True
    assert sum(request.reconnects > 0 for request in run.load.history.requests) >= 10
