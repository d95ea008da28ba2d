"""Declared models over Redis: their requests wait for workers, and workers share the loads."""

import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest
import trio

from llmactors.backends.base import Capabilities, Takeover
from llmactors.backends.build import serve_models
from llmactors.cli.forget import forget
from llmactors.cluster.known_models import KnownModel, KnownModels
from llmactors.config import DeclaredModel, Settings
from llmactors.errors import Conflict
from llmactors.http.server import ListeningSocket
from llmactors.redislink.link import RedisLink
from llmactors.redislink.names import RedisNames
from llmactors.system.cluster_node import ClusterNode
from llmactors.system.gateway_node import GatewayNode
from llmactors.system.worker_node import WorkerNode
from llmactors.testing.node import wait_until
from llmactors.testing.redis_server import RedisServer

CAPABLE = Capabilities(slots=4, context_tokens=512, takeover=Takeover.EXACT)
MODELS = {name: DeclaredModel(source="mock:step_ms=1,load_s=0.2", memory="1GiB") for name in ("a", "b", "c")}


@contextlib.asynccontextmanager
async def running(node: ClusterNode) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        yield
        await node.shut_down()


def settings(server: RedisServer, name: str, **more: object) -> Settings:
    fields = {"redis": server.url, "name": name, "drain_s": 0.2, "bind": "127.0.0.1:0"} | more
    return Settings(model=(), **fields)  # type: ignore[arg-type]


def worker(server: RedisServer, name: str, *, memory: str = "1GiB") -> WorkerNode:
    chosen = settings(server, name, models=MODELS, model_memory=memory)
    return WorkerNode(chosen, serve_models(chosen), None)


async def ask(client: httpx.AsyncClient, model: str, answers: list[httpx.Response]) -> None:
    body = {"model": model, "prompt": "hi", "max_tokens": 5}
    answers.append(await client.post("/v1/generate", json=body))


async def state(client: httpx.AsyncClient, model: str) -> str:
    listed = (await client.get("/v1/models")).json()["data"]
    return next((each["state"] for each in listed if each["id"] == model), "not listed")


async def test_requests_for_declared_models_wait_for_workers(any_server: RedisServer) -> None:
    """Before the first worker, while it runs, after it has left, and at a gateway that declares nothing itself."""
    knowing = GatewayNode(settings(any_server, "g1", models=MODELS), ListeningSocket("127.0.0.1:0"))
    answers: list[httpx.Response] = []
    async with running(knowing), httpx.AsyncClient(base_url=knowing.listening.url, timeout=30) as client:
        assert (await client.get("/readyz")).status_code == 200
        assert await state(client, "a") == "unloaded"
        assert (await client.post("/v1/generate", json={"model": "x", "prompt": "hi"})).status_code == 404
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, client, "a", answers)
            await trio.sleep(0.3)
            assert not answers
            async with running(worker(any_server, "w1")):
                await wait_until(lambda: bool(answers))
        assert answers[-1].status_code == 200
    learning = GatewayNode(settings(any_server, "g2"), ListeningSocket("127.0.0.1:0"))
    async with running(learning), httpx.AsyncClient(base_url=learning.listening.url, timeout=30) as client:
        assert await state(client, "b") == "unloaded"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, client, "b", answers)
            await trio.sleep(0.3)
            assert len(answers) == 1
            async with running(worker(any_server, "w2")):
                await wait_until(lambda: len(answers) == 2)
                with pytest.raises(BaseExceptionGroup) as caught:
                    await forget(settings(any_server, "cli"), "b")
                assert caught.group_contains(Conflict, match="w2 still declares b", depth=None)
        assert answers[-1].status_code == 200
        await forget(settings(any_server, "cli"), "b")
        await wait_until(lambda: "b" not in learning.models.declared)


async def test_two_workers_load_each_model_once(any_server: RedisServer) -> None:
    gateway = GatewayNode(settings(any_server, "g1", models=MODELS), ListeningSocket("127.0.0.1:0"))
    workers = [worker(any_server, name, memory="2GiB") for name in ("w1", "w2")]
    answers: list[httpx.Response] = []
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=gateway.listening.url, timeout=30))
        for node in (gateway, *workers):
            await stack.enter_async_context(running(node))
        async with trio.open_nursery() as nursery:
            for name in MODELS:
                for _ in range(4):
                    nursery.start_soon(ask, client, name, answers)
        assert {answer.status_code for answer in answers} == {200}
        ready = [name for node in workers for name, found in node.directory.items() if found.state.value == "ready"]
        assert sorted(ready) == ["a", "b", "c"]


async def test_known_models_outlive_their_workers(any_server: RedisServer) -> None:
    link = RedisLink(any_server.url, name="test")
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        known = KnownModels(link.call, "main")
        assert await known.read() == []
        await known.remember([KnownModel("b"), KnownModel("a", CAPABLE)])
        first, second = await known.read()
        assert (first.name, first.capabilities, second.name, second.capabilities) == ("a", CAPABLE, "b", None)
        assert 0 <= first.unseen_s < 60
        with any_server.client() as client:
            assert client.ttl(RedisNames("main").known_models) > 86_400
            client.hset(RedisNames("main").known_models, "c", "no number {")
        assert [each.name for each in await known.read()] == ["a", "b", "c"]
        assert [
            await known.reserve("a", "w1", 3.0),
            await known.reserve("a", "w1", 3.0),
            await known.reserve("a", "w2", 3.0),
        ] == [
            True,
            True,
            False,
        ]
        nursery.cancel_scope.cancel(reason="the test is over")
