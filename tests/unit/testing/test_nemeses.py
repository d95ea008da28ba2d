"""Each fault happens to a real server or process, is counted, and ends again."""

import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis
import trio

from llmactors.redislink.names import LedgerKey, RedisNames
from llmactors.testing import nemeses
from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.key_observer import RedisKeys
from llmactors.testing.managed_process import ManagedProcess, poll_until
from llmactors.testing.proxy import Proxy

pytestmark = pytest.mark.integration

RNG = random.Random(1)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """A Redis server with a proxy, and no nodes."""
    async with Cluster(ClusterSettings(gateways=0, workers=0)) as made, trio.open_nursery() as nursery:
        proxy = Proxy(made.redis.port)
        await nursery.start(proxy.run)
        made.proxies.append(proxy)
        yield made
        nursery.cancel_scope.cancel()


def usable(cluster: Cluster) -> bool:
    with cluster.client() as client:
        return bool(client.set("after", 1)) and client.config_get("maxmemory")["maxmemory"] == "0"


async def test_killed_server_returns_with_its_data(cluster: Cluster) -> None:
    with cluster.client() as client:
        client.set("kept", 1)
        first = cluster.redis.process
        nemesis = nemeses.KillRedis(cluster, min_s=0, max_s=0.1)
        await nemesis.strike(RNG)
        assert cluster.redis.process is not first
        assert client.get("kept") == b"1"
        assert nemesis.count == 1


async def test_cancelled_kill_still_restarts_the_server(cluster: Cluster) -> None:
    with trio.move_on_after(0.1):
        await nemeses.KillRedis(cluster, min_s=20, max_s=20).strike(RNG)
    assert usable(cluster)


async def test_frozen_server_is_silent_for_the_duration(cluster: Cluster) -> None:
    async with trio.open_nursery() as nursery:
        nemesis = nemeses.FreezeRedis(cluster, min_s=0.5, max_s=0.5)
        nursery.start_soon(nemesis.strike, RNG)
        await poll_until(lambda: nemesis.count == 1)
        with cluster.redis.client(socket_timeout=0.1, retry=None) as client, pytest.raises(redis.TimeoutError):
            client.ping()
    assert usable(cluster)


async def test_client_kill_closes_other_connections(cluster: Cluster) -> None:
    with cluster.redis.client(retry=None, single_connection_client=True) as client:
        client.ping()
        nemesis = nemeses.ClientKill(cluster)
        while not nemesis.count:
            await nemesis.strike(random.Random(3))
        with pytest.raises(redis.ConnectionError):
            client.ping()
    assert usable(cluster)


async def test_client_pause_delays_all_clients(cluster: Cluster) -> None:
    async with trio.open_nursery() as nursery:
        nemesis = nemeses.ClientPause(cluster, min_s=0.4, max_s=0.4)
        nursery.start_soon(nemesis.strike, RNG)
        await poll_until(lambda: nemesis.count == 1)
        begun = time.monotonic()
        assert await trio.to_thread.run_sync(usable, cluster)
        assert time.monotonic() - begun > 0.2


async def test_cancelled_out_of_memory_still_heals(cluster: Cluster) -> None:
    nemesis = nemeses.FillMemory(cluster, min_s=20, max_s=20)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(nemesis.strike, RNG)
        await poll_until(lambda: nemesis.count == 1)
        with cluster.client() as client, pytest.raises(redis.OutOfMemoryError):
            client.set("x", 1)
        nursery.cancel_scope.cancel()
    assert usable(cluster)


@pytest.mark.parametrize(
    "kind", [nemeses.ProxyLoseReplies, nemeses.ProxyBlackHole, nemeses.ProxyDelay, nemeses.ProxyRefuse]
)
async def test_proxy_passes_bytes_again_after_its_fault(cluster: Cluster, kind: type[nemeses.Nemesis]) -> None:
    nemesis = kind(cluster, min_s=0.1, max_s=0.1)
    for seed in range(4):
        await nemesis.strike(random.Random(seed))
    assert nemesis.count == 4
    assert "passes" in repr(cluster.proxies[0])

    def ping() -> bool:
        with redis.Redis.from_url(cluster.proxies[0].url, socket_timeout=2) as client:
            return bool(client.ping())

    assert await trio.to_thread.run_sync(ping)


async def test_cut_counts_only_if_a_connection_was_open(cluster: Cluster) -> None:
    nemesis = nemeses.ProxyCut(cluster)
    await nemesis.strike(RNG)
    assert nemesis.count == 0
    async with await trio.open_tcp_stream("127.0.0.1", cluster.proxies[0].port):
        await poll_until(lambda: cluster.proxies[0].statistics().open == 1)
        await nemesis.strike(RNG)
    assert nemesis.count == 1


async def test_only_ready_processes_are_killed_or_frozen(cluster: Cluster, tmp_path: Path) -> None:
    kill, freeze = nemeses.KillWorker(cluster), nemeses.FreezeWorker(cluster, min_s=0.1, max_s=0.1)
    arguments = ("--model", "mock", "--bind", "127.0.0.1:0")
    member = ManagedProcess("worker", "worker-1", arguments, tmp_path, restart_after_s=1)
    cluster.workers.append(member)
    with trio.move_on_after(0.1) as waited:
        await kill.strike(RNG)
    assert (waited.cancelled_caught, kill.count) == (True, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kill.strike, RNG)
        await nursery.start(member.run)
        await poll_until(lambda: kill.count == 1)
        with trio.move_on_after(0.1):  # it starts again after a second
            await freeze.strike(RNG)
        assert freeze.count == 0
        await freeze.strike(RNG)
        await kill.strike(RNG)
        assert (freeze.count, kill.count) == (1, 2)
        nursery.cancel_scope.cancel()
    assert nemeses.strikes([kill, freeze]) == {"workers killed": 2, "workers frozen": 1}
    assert nemeses.moments([kill, freeze]) == [kill.moments[0], *freeze.moments, kill.moments[1]]


class Noted(nemeses.Nemesis):
    """Records its strikes."""

    name = "notes"

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.drawn: list[float] = []
        self.at_once = 0
        self.most_at_once = 0

    async def strike(self, rng: random.Random) -> None:
        self.drawn.append(rng.random())
        self.struck()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await trio.sleep(0.05)
        self.at_once -= 1


@pytest.mark.parametrize("overlap", [True, False])
async def test_schedule_follows_from_its_seed(overlap: bool) -> None:
    runs = []
    for _ in range(2):
        # Without entering it: nothing runs.
        noted = [Noted(Cluster()), Noted(Cluster())]
        await nemeses.strike_repeatedly(noted, random.Random(5), every_s=0.01, until=0.4, overlap=overlap)
        assert all(nemesis.at_once == 0 for nemesis in noted), "returned before all were healed"
        assert (max(nemesis.most_at_once for nemesis in noted) > 1) is overlap
        runs.append([nemesis.drawn[:1] for nemesis in noted])
    assert runs[0] == runs[1]


async def test_schedule_ends_with_its_event() -> None:
    until, noted = trio.Event(), Noted(Cluster())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: nemeses.strike_repeatedly([noted], random.Random(5), every_s=0.01, until=until))
        await poll_until(lambda: noted.count >= 3)
        until.set()
    assert noted.count < 30


async def test_keys_with_and_without_ttl_are_told_apart(cluster: Cluster) -> None:
    with cluster.client() as client:
        client.set("before", 1)
        keys = RedisKeys(client)
        names = RedisNames("x")
        stays, goes = names.ledger(LedgerKey.LOG, "r1"), names.ledger(LedgerKey.LOG, "r2")
        client.set(names.node("w1"), 1)
        client.set(stays, 1)
        client.set(goes, 1, px=300)
        assert keys.keys_left() == [stays, goes]
        assert keys.keys_without_ttl() == [stays]
        assert await keys.wait_none_left(within_s=1) == [stays]
        client.delete(stays)
        assert await keys.wait_none_left(within_s=1) == []
