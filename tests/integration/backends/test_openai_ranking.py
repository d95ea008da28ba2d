"""`/v1/rerank` of a node in front of upstreams."""

import json
from typing import Any

import pytest

from llmactors.testing.node import local_node, mock_model
from tests.integration.backends.test_openai_node import remote
from tests.support.faulty_upstream import Hit, upstream

pytestmark = pytest.mark.integration

PATH = "/v1/rerank"
ASK = {"model": "gpt", "query": "red fox", "documents": ["a lake", "a red fox"]}


async def vllm(hit: Hit) -> None:
    """Answers as vLLM's server does, the best document first and with the documents."""
    texts = hit.body["documents"]
    results = [
        {"index": place, "document": {"text": texts[place], "multi_modal": None}, "relevance_score": place / 10}
        for place in reversed(range(len(texts)))
    ]
    await answer(hit, {"id": "rerank-1", "model": "m", "usage": {"total_tokens": 9}, "results": results})


async def too_few(hit: Hit) -> None:
    await answer(hit, {"results": [{"index": 1, "relevance_score": 1.0}]})


async def other_form(hit: Hit) -> None:
    await answer(hit, [{"index": 0, "score": 1.0}])


async def answer(hit: Hit, body: Any) -> None:
    await hit.head(kind="application/json")
    await hit.data(json.dumps(body).encode())
    await hit.end()


async def test_node_passes_scores_on() -> None:
    async with local_node(mock_model()) as below, local_node(remote(f"{below.url}/v1")) as node:
        direct = (await below.client.post(PATH, json=ASK | {"model": "mock"})).json()
        answered = (await node.client.post(PATH, json=ASK)).json()
    assert (answered["results"], answered["usage"]) == (direct["results"], direct["usage"])


@pytest.mark.parametrize("fault", [too_few, other_form])
async def test_fault_of_an_upstream_is_tried_again(fault: Any) -> None:
    async with upstream(fault, vllm) as server, local_node(remote(server.url)) as node:
        answered = (await node.client.post(PATH, json=ASK)).json()
    assert answered["results"] == [{"index": 1, "relevance_score": 0.1}, {"index": 0, "relevance_score": 0.0}]
    assert answered["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert server.hits[-1].target == PATH
    assert server.hits[-1].body.keys() == {"model", "query", "documents"}
