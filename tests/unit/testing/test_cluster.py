"""A cluster starts and restarts its processes, and leaves none behind. Stand-ins take the place of nodes here."""

import os
from pathlib import Path

import attrs
import pytest
import redis
import trio

from llmactors.testing.cluster import Cluster, ClusterSettings

pytestmark = pytest.mark.integration

STAND_IN = """
import os, sys, time
role, name = sys.argv[1], sys.argv[sys.argv.index("--name") + 1]
if os.environ.get("FAIL") == name:
    sys.exit("llmactors: no such model")
where = f"on http://{sys.argv[sys.argv.index('--bind') + 1]}" if role == "gateway" else "serves mock"
print(f"llmactors {role} {name} {where}", flush=True)
print(sys.argv[1:], os.environ["LLMACTORS_RETENTION_S"], file=sys.stderr, flush=True)
while True:
    time.sleep(1)
    if os.environ.get("RAISE"):
        raise KeyError(name)
"""


@pytest.fixture
def settings(tmp_path: Path) -> ClusterSettings:
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    environ = {"PYTHONPATH": str(tmp_path)}
    return ClusterSettings(module="stand_in", settings={"retention_s": 5}, environ=environ, restart_after_s=0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_cluster_starts_the_processes_of_its_settings(settings: ClusterSettings) -> None:
    async with Cluster(settings) as cluster:
        assert [member.name for member in cluster.members] == ["gateway-1", "gateway-2", "worker-1", "worker-2"]
        assert all(member.ready for member in cluster.members)
        assert len(set(cluster.gateway_urls)) == 2
        gateway, worker = cluster.gateways[0], cluster.workers[0]
        bind = gateway.url.removeprefix("http://")
        given = ["gateway", "--redis", cluster.redis.url, "--name", "gateway-1", "--bind", bind]
        with trio.fail_after(5):
            while not worker.stderr() or not gateway.stderr():  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert gateway.stderr() == f"{given} 5\n"
        assert "'--model', 'mock:step_ms=20,slots=64', '--metrics-bind', ''] 5" in worker.stderr()
        pids, directory = [member.pid for member in cluster.members], cluster.directory
        assert cluster.client().ping()
    assert not any(map(alive, pids))
    assert not directory.exists()
    assert not cluster.redis.running


async def test_killed_process_returns_at_the_same_address(settings: ClusterSettings) -> None:
    async with Cluster(attrs.evolve(settings, workers=0)) as cluster:
        urls = cluster.gateway_urls
        cluster.gateways[0].kill()
        await cluster.gateways[0].wait_ready(starts=2)
        assert cluster.gateway_urls == urls
        assert [member.starts for member in cluster.members] == [2, 1]


async def test_each_process_has_a_proxy_of_its_own(settings: ClusterSettings) -> None:
    async with Cluster(attrs.evolve(settings, proxied=True)) as cluster:
        assert [proxy.name for proxy in cluster.proxies] == [member.name for member in cluster.members]
        for proxy, member in zip(cluster.proxies, cluster.members, strict=True):
            assert proxy.url in member.arguments
            with redis.Redis.from_url(proxy.url) as client:
                assert await trio.to_thread.run_sync(client.ping)


async def test_failed_test_leaves_no_process_or_file(settings: ClusterSettings) -> None:
    cluster = Cluster(attrs.evolve(settings, proxied=True))
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with cluster:
            raise ZeroDivisionError
    assert not any(member.alive for member in cluster.members)
    assert not cluster.redis.running
    assert not cluster.directory.exists()


async def test_failed_start_leaves_no_process_or_file(settings: ClusterSettings) -> None:
    environ = {**settings.environ, "FAIL": "worker-2"}
    cluster = Cluster(attrs.evolve(settings, environ=environ))
    says = pytest.RaisesExc(RuntimeError, match="worker-2 did not start: llmactors: no such model")
    with pytest.RaisesGroup(says, flatten_subgroups=True):
        await cluster.__aenter__()
    assert not any(member.alive for member in cluster.members)
    assert not cluster.redis.running


async def test_tracebacks_are_reported(settings: ClusterSettings) -> None:
    environ = {**settings.environ, "RAISE": "yes"}
    async with Cluster(attrs.evolve(settings, environ=environ, gateways=1, workers=0)) as cluster:
        assert cluster.tracebacks() == []
        await cluster.gateways[0].wait_ready(starts=2)
        (text,) = cluster.tracebacks()
        assert "KeyError: 'gateway-1'" in text


async def test_redis_answers_after_restart_redis(settings: ClusterSettings) -> None:
    async with Cluster(attrs.evolve(settings, gateways=0, workers=0)) as cluster:
        with cluster.client() as client:
            client.set("kept", 1)
            async with trio.open_nursery() as nursery:
                # Two at once wait for each other.
                nursery.start_soon(cluster.restart_redis)
                nursery.start_soon(cluster.restart_redis)
            assert client.get("kept") == b"1"
