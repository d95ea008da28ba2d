"""Clients that wait in the queue learn their place: by events, by the state of their stream, and by a header."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import httpx
import pytest
import trio
import trio_websocket

from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.integration.gateway.conftest import Tenants
from tests.support.oracle import oracle
from tests.support.streams import StreamRecord, follow, read_stream

pytestmark = pytest.mark.integration

SLOW = mock_model("slots=1,step_ms=10")


CALLS = {
    "/v1/generate": {"prompt": "p", "max_tokens": 2},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "p"}], "max_tokens": 2, "model": "mock"},
    "/v1/completions": {"prompt": "p", "max_tokens": 2, "model": "mock", "stream": True},
    "/v1/responses": {"input": "p", "max_output_tokens": 2, "model": "mock"},
    "/v1/messages": {"messages": [{"role": "user", "content": "p"}], "max_tokens": 2, "model": "mock"},
}
"""One call of each route that has a header for the place."""


@contextlib.asynccontextmanager
async def held(node: LocalNode) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Has a stream take the slot of the model. Yields a function that frees the slot."""
    async with trio.open_nursery() as nursery:
        request_id = await nursery.start(_open_stream, node, {}, {"prompt": "hold", "max_tokens": 8000})
        await wait_until(lambda: "0 queued, 1 running" in repr(node.node.ledger))
        yield lambda: node.client.delete(f"/v1/streams/{request_id}")


async def test_waiting_clients_learn_their_place() -> None:
    heads: dict[str, httpx.Response] = {}
    events: list[dict[str, Any]] = []
    record = StreamRecord()

    async def call(path: str) -> None:
        heads[path] = await node.client.post(path, json=CALLS[path])

    async def on_socket() -> None:
        async with trio_websocket.open_websocket_url(f"ws://127.0.0.1:{node.port}/v1/ws") as socket:
            await socket.send_message(json.dumps({"op": "generate", "prompt": "ws", "max_tokens": 2}))
            while not events or events[-1]["event"] != "done":
                events.append(json.loads(await socket.get_message()))

    async with local_node(SLOW) as node:
        free = await node.client.post("/v1/generate", json=CALLS["/v1/generate"])
        async with held(node) as let_go, trio.open_nursery() as nursery:
            nursery.start_soon(on_socket)
            for path in CALLS:
                nursery.start_soon(call, path)
            await wait_until(lambda: f"{len(CALLS) + 1} queued" in repr(node.node.ledger))
            async with contextlib.aclosing(follow(node.url, {"prompt": "wait", "max_tokens": 3}, record)) as stream:
                async for event in stream:
                    if event.name == "queued":  # the ledger was asked about all requests before this one, too
                        await let_go()

    assert "x-queue-place" not in free.headers
    assert record.text == oracle("wait", 3)
    assert [each["event"] for each in events if each["event"] != "queued"] == ["accepted", "token", "token", "done"]
    queued = [*(each for each in events if each["event"] == "queued"), *record.queued]
    assert {each["id"] for each in queued} == {events[0]["id"], record.id}
    assert not any("seq" in each for each in queued)
    assert record.queued[0]["place"] == len(CALLS) + 2
    first = [queued[0]["place"], *(int(head.headers["x-queue-place"]) for head in heads.values())]
    assert sorted(first) == list(range(1, len(CALLS) + 2))
    assert {head.status_code for head in heads.values()} == {200}


async def test_place_changes_nothing_for_a_client_that_resumes() -> None:
    async with local_node(SLOW) as node, held(node) as let_go:
        record = StreamRecord()
        async with contextlib.aclosing(follow(node.url, {"prompt": "cut", "max_tokens": 5}, record)) as events:
            async for event in events:
                if event.name == "queued":
                    break
        assert record.last_seq == 0
        await let_go()
        again = await read_stream(node.url, {}, record)
    assert again.text == oracle("cut", 5)


async def test_state_of_a_stream_is_told_until_its_log_is_gone(tenants: Tenants) -> None:
    tenants.add("a", "b")
    async with local_node(SLOW, keys=str(tenants.path)) as node:
        mine, other = tenants.headers("a"), tenants.headers("b")

        async def status(request_id: str, headers: dict[str, str] = mine) -> httpx.Response:
            return await node.client.get(f"/v1/streams/{request_id}?status", headers=headers)

        async with trio.open_nursery() as nursery:
            first, second = [
                await nursery.start(_open_stream, node, mine, {"prompt": "p", "max_tokens": tokens})
                for tokens in (8000, 20)
            ]
            await wait_until(lambda: "1 queued, 1 running" in repr(node.node.ledger))
            running, queued = (await status(first)).json(), (await status(second)).json()
            assert (running["state"], running["place"], running["attempts"]) == ("running", None, 1)
            assert (queued["state"], queued["place"], queued["tokens"]) == ("queued", 1, 0)
            assert (await status(second, other)).status_code == 404
            await node.client.delete(f"/v1/streams/{first}", headers=mine)
        ended = (await status(second)).json()
        assert ended == {
            "id": second,
            "state": "ended",
            "place": None,
            "estimate_s": None,
            "tokens": 20,
            "attempts": 1,
        }
        assert (await status("req_unknown")).status_code == 404
        await node.node.ledger.forget(second)
        assert (await status(second)).status_code == 410


async def _open_stream(
    node: LocalNode, headers: Mapping[str, str], body: dict[str, object], *, task_status: trio.TaskStatus[str]
) -> None:
    async with node.client.stream("POST", "/v1/generate", json={**body, "stream": True}, headers=headers) as response:
        task_status.started(response.headers["x-request-id"])
        await response.aread()
