"""Calls of tools and schemas in a cluster: whatever process dies while they stream, any gateway sends the same deltas.

The same holds for the events of Anthropic's API and for vectors, which share the cluster of this test.
"""

import json
from typing import Any

import httpx
import jsonschema
import pytest
import trio

from llmactors.backends.mock.inputs import mock_vector
from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.managed_process import ManagedProcess
from llmactors.tool_calls.functions import Function

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(180),  # processes are started six times
    # The client leaves its generators to the garbage collector, and Trio warns about that.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 80}, "count": {"type": "integer"}},
    "required": ["text", "count"],
}
BODY: dict[str, Any] = {
    "model": "mock",
    "messages": [{"role": "user", "content": "Write."}],
    "max_tokens": 200,
    "tools": [Function(name, parameters=SCHEMA).definition for name in ("write", "read")],
    "tool_choice": "required",
}
SCHEMA_BODY: dict[str, Any] = {
    "model": "mock",
    "messages": BODY["messages"],
    "max_tokens": 200,
    "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}},
}
PATH = "/v1/chat/completions"
MESSAGE: dict[str, Any] = {
    "model": "mock",
    "messages": BODY["messages"],
    "max_tokens": 200,
    "tools": [{"name": "write", "input_schema": SCHEMA}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
}


async def wait_for_worker(http: httpx.AsyncClient, member: ManagedProcess) -> None:
    """Returns once the gateway knows a worker."""
    with trio.fail_after(30):
        while (await http.get(member.url + "/readyz")).status_code != 200:  # noqa: ASYNC110 - in another process
            await trio.sleep(0.02)


async def read(
    http: httpx.AsyncClient,
    member: ManagedProcess,
    key: str,
    *,
    until: int = 10_000,
    path: str = PATH,
    body: dict[str, Any] = BODY,
) -> list[str]:
    """The first `until` lines of the stream of the request with this key."""
    events: list[str] = []
    headers = {"idempotency-key": key}
    async with http.stream("POST", member.url + path, json=body | {"stream": True}, headers=headers) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line:
                events.append(line)
            if len(events) >= until:
                break
    return events


async def test_kill_9_of_worker_and_gateway_leaves_calls_alone() -> None:
    settings = ClusterSettings(
        gateways=2, workers=2, model="mock:step_ms=15", settings={"resume_grace_s": 120}, start_s=60
    )
    async with Cluster(settings) as cluster, httpx.AsyncClient(timeout=30, trust_env=False) as http:
        first, second = cluster.gateways
        await wait_for_worker(http, first)
        await wait_for_worker(http, second)
        undisturbed = await read(http, second, "undisturbed")
        plain = await read(http, second, "plain", body=SCHEMA_BODY)
        await read(http, first, "s", until=8, body=SCHEMA_BODY)  # goes on without a reader, since it has a key
        begun = await read(http, first, "k", until=len(undisturbed) // 4)
        for worker in cluster.workers:
            worker.kill()
        more = await read(http, first, "k", until=len(undisturbed) // 2)
        first.kill()
        whole = await read(http, second, "k")
        assert whole[: len(begun)] == begun
        assert whole[: len(more)] == more
        assert whole[-1] == "data: [DONE]"
        assert deltas(whole) == deltas(undisturbed)
        found = await read(http, second, "s", body=SCHEMA_BODY)
        assert deltas(found) == deltas(plain)
        jsonschema.validate(json.loads("".join(delta.get("content") or "" for delta in deltas(found))), SCHEMA)

        answer = await http.post(second.url + PATH, json=BODY, headers={"idempotency-key": "k"})
        [choice] = answer.json()["choices"]
        assert choice["finish_reason"] == "tool_calls"
        ids = [call["id"] for call in choice["message"]["tool_calls"]]
        parts = [part for delta in raw_deltas(whole) for part in delta.get("tool_calls", ())]
        assert ids == [part["id"] for part in parts if "id" in part]
        for call in choice["message"]["tool_calls"]:
            jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMA)

        await check_messages(cluster, http)
        await check_vectors(cluster, http)


async def check_messages(cluster: Cluster, http: httpx.AsyncClient) -> None:
    """Kills the workers and then the gateway in the middle of a call: the events of Anthropic's API stay the same."""
    first, second = cluster.gateways
    await first.wait_ready(2)
    await wait_for_worker(http, first)
    begun = await read(http, first, "m", until=40, path="/v1/messages", body=MESSAGE)
    for worker in cluster.workers:
        worker.kill()
    more = await read(http, first, "m", until=80, path="/v1/messages", body=MESSAGE)
    first.kill()
    whole = await read(http, second, "m", path="/v1/messages", body=MESSAGE)
    assert (whole[: len(begun)], whole[: len(more)]) == (begun, more)
    assert whole[-1] == 'data: {"type":"message_stop"}'
    events = [json.loads(line.removeprefix("data: ")) for line in whole if line.startswith("data: ")]
    parts = [event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta"]
    jsonschema.validate(json.loads("".join(parts)), SCHEMA)


async def check_vectors(cluster: Cluster, http: httpx.AsyncClient) -> None:
    """Kills all workers while they make the vectors of one call: the answer has each vector once, in order."""
    texts = [f"text {number}" for number in range(640)]  # 20 vectors in each request
    answers: list[httpx.Response] = []

    async def ask() -> None:
        body = {"model": "mock", "input": texts, "dimensions": 4}
        answers.append(await http.post(cluster.gateways[1].url + "/v1/embeddings", json=body))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(0.2)
        assert not answers
        for worker in cluster.workers:
            worker.kill()
    [answer] = answers
    found = [item["embedding"] for item in answer.json()["data"]]
    assert found == [pytest.approx(mock_vector(text, 4), abs=1e-6) for text in texts]


def raw_deltas(events: list[str]) -> list[dict[str, Any]]:
    return [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in events[:-1]]


def deltas(events: list[str]) -> list[dict[str, Any]]:
    """The deltas without the ids of the calls, which belong to the request."""
    found = raw_deltas(events)
    for delta in found:
        for call in delta.get("tool_calls", ()):
            call.pop("id", None)
    return found
