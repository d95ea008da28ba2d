"""Drained nodes, as real processes: they stay drained when they restart, until `uncordon`."""

import httpx
import pytest

from tests.integration.cluster.conftest import Cluster
from tests.integration.cluster.test_roles import Stream, llmactors, ready
from tests.support.waiting import soon

pytestmark = pytest.mark.integration

BODY = {"prompt": "hi", "max_tokens": 3}


def test_drained_nodes_stay_drained_when_they_restart(cluster: Cluster) -> None:
    """One cluster for the cases of a gateway and of a worker."""
    where = ("--redis", cluster.server.url)
    gateway, other = cluster.gateway("g1"), cluster.gateway("g2")
    worker = cluster.worker("w1")
    url, other_url = gateway.wait_ready(), other.wait_ready()
    soon(lambda: ready(url) and ready(other_url))
    stream = Stream(url, max_tokens=60)

    done = llmactors("drain", "g1", "--wait", "0s", *where)
    assert done.returncode in {0, 1}  # the command did not wait
    soon(lambda: not ready(url))
    problem = httpx.get(f"{url}/readyz").json()["problems"]["gateway"]
    assert problem == "an operator has drained this node; `uncordon g1` ends that"
    refused = httpx.post(f"{url}/v1/generate", json=BODY)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "UNAVAILABLE")
    assert httpx.post(f"{other_url}/v1/generate", json=BODY).status_code == 200
    stream.check()  # an open stream goes on to its end
    assert gateway.stop() == 0
    again = cluster.gateway("g1")
    url = again.wait_ready()
    soon(lambda: "drained" in httpx.get(f"{url}/readyz").json()["problems"].get("gateway", ""))
    assert llmactors("uncordon", "g1", *where).stdout == "g1 takes work again\n"
    soon(lambda: ready(url))

    metrics = worker.wait_ready()
    assert llmactors("drain", "w1", "--for", "1h", *where).stdout == "worker w1 is drained, and takes no work for 1h\n"
    assert "an operator has drained this node until" in httpx.get(f"{metrics}/readyz").json()["problems"]["worker"]
    assert "drained by an operator" in llmactors("tree", "--cluster", *where).stdout
    assert worker.stop() == 0
    assert "this node is drained and takes no work" in worker.errors()
    metrics = cluster.worker("w1").wait_ready()
    assert httpx.get(f"{metrics}/readyz").status_code == 503
    assert llmactors("uncordon", "w1", *where).returncode == 0
    soon(lambda: ready(metrics))
    soon(lambda: httpx.post(f"{url}/v1/generate", json=BODY, timeout=20).status_code == 200)
    unknown = llmactors("uncordon", "w9", *where)
    assert (unknown.returncode, 'no node "w9" is drained or runs' in unknown.stderr) == (1, True)
