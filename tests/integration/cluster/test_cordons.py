"""Drained nodes stay drained when they restart, until `uncordon`. The nodes of a cluster run in the test's process."""

import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest
import structlog
import trio

from llmactors.backends.build import serve_models
from llmactors.cli.drain import drain
from llmactors.cli.reload import ask_to_reload
from llmactors.cli.uncordon import uncordon
from llmactors.config import Settings
from llmactors.errors import NotFound
from llmactors.http.server import ListeningSocket
from llmactors.system.cluster_node import ClusterNode
from llmactors.system.gateway_node import GatewayNode
from llmactors.system.worker_node import WorkerNode
from llmactors.testing.node import wait_until
from llmactors.testing.redis_server import RedisServer

pytestmark = pytest.mark.integration

BODY = {"prompt": "hi", "max_tokens": 3}


@contextlib.asynccontextmanager
async def running(node: ClusterNode) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        yield
        await node.shut_down()


def gateway(settings: Settings) -> GatewayNode:
    return GatewayNode(settings, ListeningSocket("127.0.0.1:0"))


def worker(settings: Settings) -> WorkerNode:
    return WorkerNode(settings, serve_models(settings), ListeningSocket("127.0.0.1:0"))


async def problems(url: str) -> dict[str, str]:
    async with httpx.AsyncClient(trust_env=False) as client:
        found: dict[str, str] = (await client.get(f"{url}/readyz")).json()["problems"]
        return found


async def wait_problem(url: str, component: str, text: str) -> None:
    """Waits until the node names this problem, or no problem for an empty text."""
    with trio.fail_after(10):
        while text not in (found := (await problems(url)).get(component, "")) or (found and not text):  # noqa: ASYNC110
            await trio.sleep(0.02)


async def status(url: str) -> int:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        return int((await client.post(f"{url}/v1/generate", json=BODY)).status_code)


def settings(server: RedisServer, name: str, **more: object) -> Settings:
    fields = {"redis": server.url, "name": name, "model": ("mock:step_ms=10,slots=16",), "drain_s": 1.0} | more
    return Settings(**fields)  # type: ignore[arg-type]


async def test_drained_nodes_stay_drained_when_they_restart(any_server: RedisServer) -> None:
    own = settings(any_server, "g1")
    async with running(worker(settings(any_server, "w1"))):
        first = gateway(own)
        async with running(first), httpx.AsyncClient(base_url=first.listening.url, trust_env=False) as client:
            url = first.listening.url
            await wait_problem(url, "workers", "")
            body = {**BODY, "max_tokens": 50, "stream": True}
            async with client.stream("POST", "/v1/generate", json=body, timeout=20) as stream:
                found = await drain(own, "g1", wait_s=0.3)
                assert (found.heard, found.left) == (True, 1)
                assert await problems(url) == {"gateway": "an operator has drained this node; `uncordon g1` ends that"}
                assert await status(url) == 503
                assert "event: done" in [line async for line in stream.aiter_lines()]  # goes on to its end
        again = gateway(own)
        async with running(again):
            await wait_problem(again.listening.url, "gateway", "an operator has drained this node")
            await uncordon(own, "g1")
            await wait_problem(again.listening.url, "gateway", "")
            with trio.fail_after(10):
                while await status(again.listening.url) != 200:  # noqa: ASYNC110 - asked by HTTP
                    await trio.sleep(0.05)


async def test_drained_worker_hands_over_and_comes_back(any_server: RedisServer) -> None:
    first, second, door = (settings(any_server, name) for name in ("w1", "w2", "g1"))
    node, entrance = worker(first), gateway(door)
    async with running(entrance), running(node):
        assert node.listening is not None
        url, operators = entrance.listening.url, node.listening.url
        await wait_problem(url, "workers", "")
        answers: list[int] = []

        async def ask() -> None:
            answers.append(await status(url))

        with structlog.testing.capture_logs() as lines:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                found = await drain(first, "w1", for_s=60)
                assert (found.heard, found.left) == (True, 0)
                assert "an operator has drained this node until" in (await problems(operators))["worker"]
                async with running(worker(second)):
                    await wait_until(lambda: bool(answers))
                await uncordon(first, "w1")
                await wait_problem(operators, "worker", "")
                await ask()
        assert answers == [200, 200]
        said = [line["event"] for line in lines if line.get("node") == "w1"]
        assert said == ["this node is drained and takes no work", "this node takes work again: its cordon is over"]
        with pytest.raises(BaseExceptionGroup) as caught:
            await uncordon(first, "w9")
        assert caught.group_contains(NotFound, depth=None)


async def test_nodes_of_a_cluster_reload_when_asked(any_server: RedisServer) -> None:
    own = settings(any_server, "g1")
    node = gateway(own)
    node.live.reread = lambda: settings(any_server, "g1", rate_limit="7/s")
    async with running(node):
        assert await ask_to_reload(own) == ["g1"]
        await wait_until(lambda: node.live.settings.rate_limit == "7/s")
