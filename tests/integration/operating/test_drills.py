"""The drills: a part of the node breaks, and the stream goes on."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import trio

from llmactors.testing.node import LocalNode, local_node, mock_model

pytestmark = pytest.mark.integration

TOKENS = 40
BODY = {"prompt": "p", "max_tokens": TOKENS, "stream": True}


@contextlib.asynccontextmanager
async def drilled() -> AsyncIterator[LocalNode]:
    async with local_node(mock_model("step_ms=15,eos_one_in=0"), drills=True) as node:
        await node.wait_ready()
        yield node


async def read_seqs(response: httpx.Response, on_seq: Callable[[int], Any]) -> tuple[list[int], str]:
    """The seqs of all events, and the name of the last event."""
    seqs, last = [], ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            last = line.removeprefix("event: ")
        if line.startswith("id: "):
            seqs.append(int(line.removeprefix("id: ")))
            on_seq(seqs[-1])
    return seqs, last


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("kill-model", {"model": "mock"}),
        ("crash-actor", {"actor": "node/serving/backends/mock"}),
        ("crash-actor", {"actor": "node/serving/batcher:mock"}),
    ],
)
async def test_stream_goes_on_through_a_drill(path: str, body: dict[str, str]) -> None:
    async with drilled() as node, trio.open_nursery() as nursery:
        answers: list[httpx.Response] = []

        async def drill() -> None:
            answers.append(await node.client.post(f"/v1/operator/drills/{path}", json=body))

        def on_seq(seq: int) -> None:
            if seq == 5:
                nursery.start_soon(drill)

        async with node.client.stream("POST", "/v1/generate", json=BODY) as response:
            seqs, last = await read_seqs(response, on_seq)
        assert (seqs, last) == (list(range(1, TOKENS + 2)), "done")
        assert (answers[0].status_code, answers[0].json()["node"]) == (200, "node")
        [*_, first] = (await node.client.get("/v1/operator/restarts")).json()["restarts"]
        assert first["actor"].endswith(body.get("actor", "backends/mock"))


async def test_cut_connection_can_be_followed_again() -> None:
    async with drilled() as node, trio.open_nursery() as nursery:
        before: list[int] = []
        async with node.client.stream("POST", "/v1/generate", json=BODY) as response:
            request_id = response.headers["x-request-id"]

            def on_seq(seq: int) -> None:
                before.append(seq)
                if seq == 5:
                    cut = {"request_id": request_id}
                    nursery.start_soon(lambda: node.client.post("/v1/operator/drills/cut-connection", json=cut))

            with pytest.raises(httpx.HTTPError):
                await read_seqs(response, on_seq)
        headers = {"last-event-id": str(before[-1])}
        async with node.client.stream("GET", f"/v1/streams/{request_id}", headers=headers) as response:
            after, last = await read_seqs(response, lambda _seq: None)
        assert (before + after, last) == (list(range(1, TOKENS + 2)), "done")
        again = await node.client.post("/v1/operator/drills/cut-connection", json={"request_id": request_id})
        assert again.status_code == 404


async def test_gateway_answers_before_it_crashes() -> None:
    async with drilled() as node:
        path = "node/http/gateway"
        answer = await node.client.post("/v1/operator/drills/crash-actor", json={"actor": path})
        assert answer.json() == {"node": "node", "broken": path}
        await node.wait_running(path, 2)
        assert (await node.client.get("/v1/operator/session")).json()["drills"] is True


async def test_unknown_parts_are_404() -> None:
    async with drilled() as node:
        for path, body in (
            ("kill-model", {"model": "<script>"}),
            ("crash-actor", {"actor": "node/none"}),
            ("crash-actor", {"actor": "node"}),
            ("cut-connection", {"request_id": "req_x"}),
        ):
            answer = await node.client.post(f"/v1/operator/drills/{path}", json=body)
            assert answer.status_code == 404, path
        assert (await node.client.post("/v1/operator/drills/kill-model", json={})).status_code == 400


async def test_drills_are_off_by_default() -> None:
    async with local_node() as node:
        for path in ("kill-model", "crash-actor", "cut-connection"):
            answer = await node.client.post(f"/v1/operator/drills/{path}", content=json.dumps({}))
            assert answer.status_code == 404
            assert "`drills = true`" in answer.json()["error"]["message"]
        assert (await node.client.get("/v1/operator/session")).json()["drills"] is False
