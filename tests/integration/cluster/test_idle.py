"""What a cluster without requests writes to Redis."""

import time

import httpx
import pytest

from tests.integration.cluster.conftest import Cluster
from tests.integration.cluster.test_redis_moods import BODY, NAMES
from tests.integration.cluster.test_roles import Stream, ready
from tests.support.waiting import soon

pytestmark = pytest.mark.integration

MOST_BYTES_AN_HOUR = 1_000_000
"""For each node."""


def test_idle_cluster_writes_nothing_that_is_not_needed(moody: Cluster) -> None:
    nodes = [moody.gateway("g1"), moody.gateway("g2"), moody.worker("w1"), moody.worker("w2")]
    url, *_ = [node.wait_ready() for node in nodes]
    soon(lambda: ready(url))
    assert httpx.post(f"{url}/v1/generate", json=BODY, timeout=20).status_code == 200
    time.sleep(7)  # a gateway keeps its copy of the request for a few seconds
    with moody.server.client() as client:
        before = client.info("persistence")["aof_current_size"]
        time.sleep(5)
        grown = client.info("persistence")["aof_current_size"] - before
    assert grown / 5 * 3600 / len(nodes) < MOST_BYTES_AN_HOUR


def test_leases_outlive_a_restart_of_redis_after_idle_time(moody: Cluster) -> None:
    """The leases in the file of the server are those of the start of the workers."""
    gateway, worker = moody.gateway("g1"), moody.worker("w1")
    url = gateway.wait_ready()
    worker.wait_ready()
    soon(lambda: ready(url))
    time.sleep(4)
    stream = Stream(url, max_tokens=100)
    with moody.server.client() as client:
        [before] = client.zrange(f"{NAMES.ledger_prefix}workers", 0, -1)
    moody.server.kill()
    time.sleep(2)
    moody.server.start()
    stream.check()
    with moody.server.client() as client:
        assert client.zrange(f"{NAMES.ledger_prefix}workers", 0, -1) == [before]
