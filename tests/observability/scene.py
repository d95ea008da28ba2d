"""A cluster with models of all kinds, and clients that use every part of it.

The workers serve a simulated model with few slots, so that requests wait; a model of two upstreams, one of which is
dead; and a model that is loaded when it is asked for. The load sends streams of all classes, short chats, requests that
their caller's limit refuses, and requests that are wrong.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import attrs
import httpx
import trio

from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.host import free_port
from llmactors.testing.node import NodeProcess

MODEL, UPSTREAM, ON_DEMAND = "main", "other", "rare"
_STREAMS, _TOKENS, _STEP_MS, _SLOTS = 16, 60, 20, 3
_LIMIT = 40
"""Requests that one address may send in a minute."""


@attrs.frozen
class Scene:
    """A running cluster with its load."""

    cluster: Cluster

    async def load(self) -> None:
        """Sends requests of all kinds until cancelled."""
        async with trio.open_nursery() as nursery:
            for number in range(_STREAMS):
                nursery.start_soon(self._repeat, number, self._stream)
            nursery.start_soon(self._repeat, _STREAMS, self._chat)
            nursery.start_soon(self._repeat, _STREAMS + 1, self._rare)
            nursery.start_soon(self._repeat, _STREAMS + 2, self._refused)

    async def _repeat(self, number: int, send: Callable[[httpx.AsyncClient, int], Awaitable[None]]) -> None:
        """Sends requests from an address of its own, whose limit is its own."""
        transport = httpx.AsyncHTTPTransport(local_address=f"127.0.0.{number + 10}")
        urls = self.cluster.gateway_urls
        url = urls[number % len(urls)]
        async with httpx.AsyncClient(base_url=url, transport=transport, timeout=60) as client:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    await send(client, number)
                await trio.sleep(0.2)

    async def _stream(self, client: httpx.AsyncClient, number: int) -> None:
        body = {
            "model": MODEL,
            "prompt": f"stream {number}",
            "max_tokens": _TOKENS,
            "priority": number % 3,
            "stream": True,
        }
        async with client.stream("POST", "/v1/generate", json=body) as answer:
            async for _ in answer.aiter_bytes():
                pass

    async def _chat(self, client: httpx.AsyncClient, number: int) -> None:
        messages = [{"role": "user", "content": "Hello."}]
        body = {"model": UPSTREAM, "messages": messages, "max_tokens": 8, "user": str(number)}
        await client.post("/v1/chat/completions", json=body)
        await trio.sleep(1)

    async def _rare(self, client: httpx.AsyncClient, number: int) -> None:
        await client.post("/v1/generate", json={"model": ON_DEMAND, "prompt": str(number), "max_tokens": 4})
        await trio.sleep(2)

    async def _refused(self, client: httpx.AsyncClient, number: int) -> None:
        """A wrong request, and more short requests than one address may send."""
        await client.post("/v1/generate", json={"prompt": number})
        for _ in range(4):
            await client.post("/v1/generate", json={"model": UPSTREAM, "prompt": "p", "max_tokens": 1})


@contextlib.asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    """Runs the cluster until the block ends. `directory` gets the configuration file."""
    config = directory / "llmactors.toml"
    config.write_text(
        f'[models.{ON_DEMAND}]\nsource = "mock:step_ms=5"\nmemory = "1MiB"\nidle_s = 3\n', encoding="utf-8"
    )
    with NodeProcess("serve", "--model", "mock=mock:step_ms=5", "--bind", "127.0.0.1:0") as upstream:
        living = await trio.to_thread.run_sync(upstream.wait_ready)
        dead = f"http://127.0.0.1:{free_port()}"
        other = f"{UPSTREAM}=openai:{dead}/v1,model=mock|{living}/v1,model=mock"
        settings = ClusterSettings(
            model=f"{MODEL}=mock:step_ms={_STEP_MS},slots={_SLOTS}",
            worker_metrics=True,
            start_s=90,
            gateway_arguments=("--config", str(config), "--rate-limit", f"{_LIMIT}/min"),
            worker_arguments=("--config", str(config), "--model", other),
        )
        async with Cluster(settings) as cluster:
            yield Scene(cluster)
