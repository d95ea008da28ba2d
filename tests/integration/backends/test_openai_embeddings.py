"""`/v1/embeddings` of a node in front of upstreams."""

import json
from typing import Any

import pytest

from llmactors.backends.mock.inputs import mock_vector
from llmactors.testing.node import local_node, mock_model
from tests.integration.backends.test_openai_node import remote
from tests.support.faulty_upstream import Hit, upstream

pytestmark = pytest.mark.integration


async def numbers(hit: Hit) -> None:
    """Answers with a list of numbers for each input, in reverse order, as upstreams without Base64 do."""
    await answer(hit, [{"index": place, "embedding": [place, 0.5]} for place in range(len(hit.body["input"]))][::-1])


async def too_few(hit: Hit) -> None:
    await answer(hit, [])


async def overloaded(hit: Hit) -> None:
    await hit.refuse(500)


async def too_long(hit: Hit) -> None:
    await hit.refuse(400, error={"message": "8193 tokens", "code": "context_length_exceeded"})


async def answer(hit: Hit, data: list[Any]) -> None:
    await hit.head(kind="application/json")
    await hit.data(json.dumps({"data": data, "usage": {"prompt_tokens": 9}}).encode())
    await hit.end()


async def test_node_passes_vectors_on() -> None:
    """From another node, in the order of the inputs, with the given length and the counted tokens."""
    texts = [f"text {number}" for number in range(80)]
    body = {"model": "gpt", "input": texts, "dimensions": 4}
    async with local_node(mock_model()) as below, local_node(remote(f"{below.url}/v1")) as node:
        answered = (await node.client.post("/v1/embeddings", json=body)).json()
    expected = [mock_vector(text, 4) for text in texts]
    assert [item["embedding"] for item in answered["data"]] == [pytest.approx(each, abs=1e-6) for each in expected]
    assert answered["usage"]["prompt_tokens"] == 160


async def no_base64(hit: Hit) -> None:
    if "encoding_format" in hit.body:
        await hit.refuse(400, error={"message": "unknown field", "param": "encoding_format"})
    else:
        await numbers(hit)


async def too_deep(hit: Hit) -> None:
    await hit.head(kind="application/json")
    await hit.data(b'{"data":' + b"[" * 50_000)
    await hit.end()


async def test_upstream_without_base64_is_asked_for_numbers() -> None:
    async with upstream(no_base64) as server, local_node(remote(server.url)) as node:
        for _ in range(2):
            answered = (await node.client.post("/v1/embeddings", json={"model": "gpt", "input": "a"})).json()
            assert [item["embedding"] for item in answered["data"]] == [[0.0, 0.5]]
    assert len(server.hits) == 3


@pytest.mark.parametrize("fault", [overloaded, too_few, too_deep])
async def test_fault_of_an_upstream_is_tried_again(fault: Any) -> None:
    async with upstream(fault, numbers) as server, local_node(remote(server.url)) as node:
        answered = (await node.client.post("/v1/embeddings", json={"model": "gpt", "input": "a"})).json()
    assert [item["embedding"] for item in answered["data"]] == [[0.0, 0.5]]
    assert answered["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert server.hits[-1].target == "/v1/embeddings"


async def test_refusal_of_an_upstream_is_shown() -> None:
    async with upstream(too_long) as server, local_node(remote(server.url)) as node:
        answered = await node.client.post("/v1/embeddings", json={"model": "gpt", "input": "a"})
    assert (answered.status_code, answered.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert len(server.hits) == 1
