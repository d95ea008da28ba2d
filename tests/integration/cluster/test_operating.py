"""The operators' routes of a cluster, whose nodes run in the test's process."""

import contextlib
from collections.abc import AsyncIterator

import attrs
import httpx
import pytest
import trio

from llmactors.access.keys.record import KeyRecord
from llmactors.access.keys.redis import RedisKeyStore
from llmactors.access.keys.text import NewKey, new_key
from llmactors.backends.build import serve_models
from llmactors.config import Settings
from llmactors.http.server import ListeningSocket
from llmactors.redislink.link import RedisLink
from llmactors.system.cluster_node import ClusterNode
from llmactors.system.gateway_node import GatewayNode
from llmactors.system.worker_node import WorkerNode
from llmactors.testing.node import wait_until
from llmactors.testing.redis_server import RedisServer

pytestmark = pytest.mark.integration

TOKENS = 60
PROMPT = "nobody else may read this"


@attrs.frozen
class SmallCluster:
    """Two gateways and a worker on one Redis server."""

    gateways: tuple[GatewayNode, GatewayNode]
    worker: WorkerNode
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient]
    operator: NewKey
    store: RedisKeyStore


def settings(server: RedisServer, name: str) -> Settings:
    return Settings(redis=server.url, name=name, model=("mock:step_ms=15,slots=1",), drain_s=0.5, drills=True)


@contextlib.asynccontextmanager
async def small_cluster(server: RedisServer) -> AsyncIterator[SmallCluster]:
    operator, link = new_key(), RedisLink(server.url)
    gateways = [
        GatewayNode(attrs.evolve(settings(server, name), keys="redis"), ListeningSocket("127.0.0.1:0"))
        for name in ("g1", "g2")
    ]
    worker = WorkerNode(settings(server, "w1"), serve_models(settings(server, "w1")), ListeningSocket("127.0.0.1:0"))
    nodes: list[ClusterNode] = [worker, *gateways]
    async with contextlib.AsyncExitStack() as stack, trio.open_nursery() as nursery:
        await nursery.start(link.run)
        store = RedisKeyStore(link.call, "main")
        record = KeyRecord(
            id=operator.id, tenant="operators", hash=operator.digest, created=1.0, operator=True, best_priority=0
        )
        await store.add(record)
        for node in nodes:
            await nursery.start(node.run)
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=node.listening.url, trust_env=False))
            for node in gateways
        ]
        await wait_until(lambda: all(not node.models.problems() and len(node.models.records) == 3 for node in gateways))
        yield SmallCluster((gateways[0], gateways[1]), worker, (clients[0], clients[1]), operator, store)
        for node in nodes:
            await node.shut_down()
        nursery.cancel_scope.cancel()


async def test_operators_see_and_break_a_whole_cluster(any_server: RedisServer) -> None:
    async with small_cluster(any_server) as cluster, trio.open_nursery() as nursery:
        one, two = cluster.clients
        key = {"x-api-key": cluster.operator.text}

        # A session that one gateway began is good at the other.
        begun = await one.post("/v1/operator/session", json={"key": cluster.operator.text})
        one.cookies.clear()
        session = {"cookie": begun.headers["set-cookie"].partition(";")[0]}
        assert (await two.get("/v1/operator/session", headers=session)).json()["operator"] is True

        # Each gateway shows all nodes, and the requests of both gateways.
        nodes = (await two.get("/v1/operator/nodes", headers=session)).json()["nodes"]
        assert [(node["name"], node["roles"]) for node in nodes] == [
            ("g1", ["gateway"]),
            ("g2", ["gateway"]),
            ("w1", ["worker"]),
        ]
        body = {"prompt": PROMPT, "max_tokens": TOKENS, "stream": True, "priority": 0}
        seqs: list[int] = []

        async def read() -> None:
            async with one.stream("POST", "/v1/generate", json=body, headers=key) as response:
                async for line in response.aiter_lines():
                    seqs.extend([int(line[4:])] if line.startswith("id: ") else [])

        nursery.start_soon(read)
        await wait_until(lambda: len(seqs) > 3)
        nursery.start_soon(lambda: two.post("/v1/generate", json={**body, "stream": False}, headers=key, timeout=30))
        with trio.fail_after(10):
            while True:
                shown = await two.get("/v1/operator/requests", headers=session)
                if shown.json()["total"] == 2:
                    break
        running, queued = shown.json()["requests"]
        assert (running["state"], running["tenant"], running["key_id"]) == ("running", "operators", cluster.operator.id)
        assert (running["worker"].partition("/")[0], queued["state"], queued["worker"]) == ("w1", "queued", None)
        [row] = (await two.get("/v1/operator/queue", headers=session)).json()["models"]
        assert (row["waiting"], row["class"], row["tenant"]) == (1, 0, "operators")
        waiting = (await two.get(f"/v1/operator/requests/{queued['id']}", headers=session)).json()
        assert (waiting["place"], waiting["claims"]) == (1, [])
        [model] = (await one.get("/v1/operator/models", headers=session)).json()["models"]
        assert (model["workers"], model["slots"], model["waiting"]) == (1, 1, 1)
        tenants = (await two.get("/v1/operator/tenants", headers=session)).json()["tenants"]
        assert [tenant["tenant"] for tenant in tenants] == ["operators"]
        assert PROMPT not in shown.text

        # A drill at a gateway kills the model of the worker, and the stream goes on.
        killed = await two.post("/v1/operator/drills/kill-model", json={"model": model["name"]}, headers=key)
        assert killed.json() == {"node": "w1", "broken": model["name"]}
        await wait_until(lambda: len(seqs) == TOKENS + 1, within_s=20)
        assert seqs == list(range(1, TOKENS + 2))
        details = (await two.get(f"/v1/operator/requests/{running['id']}", headers=session)).json()
        assert (details["state"], details["outcome"], details["takeovers"]) == ("ended", "length", 1)
        assert [claim["cause"] for claim in details["claims"]] == ["crashed", None]
        assert details["admitted_unix_s"] <= details["first_token_unix_s"] <= details["ended_unix_s"]

        await check_port_of_worker(cluster.worker)

        # The session ends with its key at every gateway.
        await cluster.store.change(cluster.operator.id, lambda record: record.revoke(2.0))
        with trio.fail_after(5):
            while (await one.get("/v1/operator/nodes", headers=session)).status_code == 200:  # noqa: ASYNC110
                await trio.sleep(0.02)
        assert (await two.get("/v1/operator/session", headers=session)).json()["operator"] is False


async def check_port_of_worker(worker: WorkerNode) -> None:
    """The port shows the worker alone, and nothing of the ledger."""
    url = "" if worker.listening is None else worker.listening.url
    async with httpx.AsyncClient(base_url=url, trust_env=False) as port:
        [own] = (await port.get("/v1/operator/nodes")).json()["nodes"]
        [restart, *_] = (await port.get("/v1/operator/restarts")).json()["restarts"]
        assert (own["name"], restart["actor"]) == ("w1", "node/serving/backends/mock")
        assert (await port.get("/v1/operator/history")).json()["step_s"] == 10
        assert (await port.get("/v1/operator/requests")).status_code == 404
