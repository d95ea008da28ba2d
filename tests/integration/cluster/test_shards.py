"""Gateways and workers over three Redis servers, each of which is killed under load: `just test-shards`."""

import contextlib
import random
from collections.abc import Iterator

import pytest
import trio

from llmactors.redislink.names import LedgerKey, RedisNames
from llmactors.testing.checker import check
from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.nemeses import FreezeRedis, KillRedis, KillWorker, strikes
from llmactors.testing.redis_server import RedisServer
from llmactors.testing.returning_clients import LoadSettings, StreamLoad

pytestmark = [pytest.mark.integration, pytest.mark.shards, pytest.mark.timeout(240)]


class ShardedCluster(Cluster):
    """A cluster over three servers. `redis` is the server that the next fault strikes."""

    def __init__(self, settings: ClusterSettings) -> None:
        super().__init__(settings)
        self.all = [self.redis, RedisServer(), RedisServer()]

    @property
    def redis_url(self) -> str:
        return ",".join(server.url for server in self.all)

    @contextlib.contextmanager
    def servers(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for server in self.all:
                stack.enter_context(server)
            yield


async def test_no_token_is_lost_while_each_server_is_killed() -> None:
    settings = ClusterSettings(model="mock:step_ms=20,slots=16", settings={"resume_grace_s": 60}, start_s=90)
    rng = random.Random(1)
    async with ShardedCluster(settings) as cluster:
        load = StreamLoad(lambda: cluster.gateway_urls, LoadSettings(clients=24, max_tokens=48, settle_s=60.0), seed=1)
        kill, freeze, worker = KillRedis(cluster), FreezeRedis(cluster), KillWorker(cluster)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            await load.wait_accepted(24)
            for server in cluster.all:
                cluster.redis = server
                await kill.strike(rng)
                await load.wait_accepted(len(load.history.requests) + 12)
            await freeze.strike(rng)
            await worker.strike(rng)
            await load.wait_accepted(len(load.history.requests) + 12)
            await cluster.wait_ready()
            load.stop()
        report = check(load.history, strikes=strikes([kill, freeze, worker]))
        assert not report.broken, str(report)
        assert cluster.tracebacks() == []
        counters = RedisNames("main").ledger(LedgerKey.COUNTERS)
        accepted = []
        for server in cluster.all:
            with server.client() as client:
                accepted.append(int(client.hget(counters, "accepted_total") or 0))
        assert min(accepted) > 0.15 * sum(accepted)
