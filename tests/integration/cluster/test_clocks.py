"""Deadlines are counted by the ledger's clock, however wrong the clocks of the nodes are."""

import time

import httpx
import pytest
import trio

from llmactors.testing.cluster import Cluster, ClusterSettings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]


@pytest.fixture(params=[-3600, 3600], ids=["an hour behind", "an hour ahead"])
def settings(request: pytest.FixtureRequest) -> ClusterSettings:
    return ClusterSettings(
        gateways=1,
        workers=1,
        module="tests.support.wrong_clock",
        environ={"CLOCK_SHIFT_S": str(request.param)},
    )


async def test_clock_of_a_gateway_moves_no_deadline(settings: ClusterSettings) -> None:
    async with Cluster(settings) as cluster, httpx.AsyncClient(base_url=cluster.gateway_urls[0], timeout=30) as client:

        async def generate(tokens: int, *, headers: dict[str, str] | None = None, **fields: int) -> tuple[int, float]:
            """The status, and how long the answer took. A token takes 20 ms, so 500 tokens take 10 s."""
            began = trio.current_time()
            body = {"prompt": "hi", "max_tokens": tokens, **fields}
            response = await client.post("/v1/generate", json=body, headers=headers)
            return response.status_code, trio.current_time() - began

        with trio.fail_after(20):
            while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - another process's state
                await trio.sleep(0.05)
        assert (await generate(10, deadline_ms=5000))[0] == 200
        status, took_s = await generate(500, deadline_ms=300)
        assert (status, took_s < 9) == (504, True)
        soon = {"X-Request-Deadline": str(round(time.time() * 1000) + 300)}
        status, took_s = await generate(500, headers=soon)
        assert (status, took_s < 9) == (504, True)
        later = {"X-Request-Deadline": str(round(time.time() * 1000) + 5000)}
        assert (await generate(10, headers=later))[0] == 200
        assert (await generate(500, headers=later, deadline_ms=300))[0] == 504
