"""A rate limit counts over all gateways of a cluster together, even if one of them is killed."""

import signal

import httpx
import pytest
import trio

from llmactors.testing.cluster import Cluster, ClusterSettings

pytestmark = pytest.mark.integration

BODY = {"prompt": "p", "max_tokens": 1}


async def test_rate_limit_holds_over_all_gateways() -> None:
    settings = ClusterSettings(workers=1, model="mock", settings={"rate_limit": "7/100000s"}, appendfsync="no")
    statuses: list[int] = []

    async def ask(client: httpx.AsyncClient, url: str) -> None:
        statuses.append((await client.post(f"{url}/v1/generate", json=BODY)).status_code)

    async with Cluster(settings) as cluster, httpx.AsyncClient(timeout=30) as client:
        for url in cluster.gateway_urls:
            with trio.fail_after(20):
                while (await client.get(f"{url}/readyz")).status_code != 200:  # noqa: ASYNC110 - it sees the worker
                    await trio.sleep(0.05)
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(ask, client, cluster.gateway_urls[number % 2])
        assert (statuses.count(200), statuses.count(429)) == (7, 13)
        one, other = cluster.gateways
        one.kept_up = False
        one.signal(signal.SIGKILL)
        await ask(client, other.url)
        assert statuses[-1] == 429
