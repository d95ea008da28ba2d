"""`/v1/rerank` on a node with a simulated model."""

from collections.abc import Iterator
from typing import Any

import pytest

from llmactors.backends.build import ServedModel
from llmactors.backends.custom.batch import BatchBackend
from llmactors.backends.mock.inputs import mock_score
from llmactors.gateway.openai.inputs_body import MAX_INPUTS
from llmactors.gateway.openai.rerank import ranked
from llmactors.testing.node import LocalNode, local_node

PATH = "/v1/rerank"
ASK: dict[str, Any] = {"model": "mock", "query": "red fox", "documents": ["a lake", "a red fox", "the red sea"]}


async def test_best_document_comes_first(node: LocalNode) -> None:
    response = await node.client.post(PATH, json=ASK)
    answer = response.json()
    assert [item["index"] for item in answer["results"]] == [1, 2, 0]
    assert [item["relevance_score"] for item in answer["results"]] == pytest.approx(
        [mock_score(ASK["query"], ASK["documents"][index]) for index in (1, 2, 0)]
    )
    assert (answer["model"], answer["usage"]) == ("mock", {"prompt_tokens": 14, "total_tokens": 14})
    assert answer["id"].removeprefix("rerank-") == response.headers["x-request-id"].removeprefix("req_")
    assert "document" not in answer["results"][0]


async def test_top_n_and_documents(node: LocalNode) -> None:
    documents = [{"text": text} for text in ASK["documents"]]
    body = ASK | {"documents": documents, "top_n": 1, "return_documents": True}
    [best] = (await node.client.post(PATH, json=body)).json()["results"]
    assert (best["index"], best["document"]) == (1, {"text": "a red fox"})


async def test_documents_share_requests(node: LocalNode) -> None:
    documents = [f"document {number} red" for number in range(300)]
    answer = (await node.client.post(PATH, json=ASK | {"documents": documents})).json()
    expected = ranked([mock_score(ASK["query"], document) for document in documents], None, None)
    assert [item["index"] for item in answer["results"]] == [item["index"] for item in expected]
    assert answer["usage"]["prompt_tokens"] == 300 * 5


async def test_repeated_call_gets_the_same_scores(node: LocalNode) -> None:
    answers = [await node.client.post(PATH, json=ASK, headers={"idempotency-key": "k"}) for _ in range(2)]
    assert answers[0].content == answers[1].content


def test_documents_of_one_score_keep_their_order() -> None:
    assert [item["index"] for item in ranked([1.0, 2.0, 1.0, 2.0], None, 3)] == [1, 3, 0]


@pytest.mark.parametrize(
    ("changes", "param", "said"),
    [
        ({"query": ""}, "query", "`query`"),
        ({"query": None}, "query", "`query`"),
        ({"documents": []}, "documents", "`documents` is empty"),
        ({"documents": ["a", ""]}, "documents", "`documents[1]` is empty"),
        ({"documents": ["a", 1]}, "documents", "must be a list of texts"),
        ({"documents": [{"image": "a"}]}, "documents", "must be a list of texts"),
        ({"documents": ["a"] * (MAX_INPUTS + 1)}, "documents", f"at most {MAX_INPUTS}"),
        ({"top_n": 0}, "top_n", "`top_n`"),
        ({"rank_fields": ["title"]}, "rank_fields", "is not served here"),
        ({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens", "is not served here"),
    ],
)
async def test_wrong_call_is_refused_by_name(node: LocalNode, changes: Any, param: str, said: str) -> None:
    response = await node.client.post(PATH, json=ASK | changes)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert said in error["message"]


def _no_answers(prompts: list[str], max_tokens: int) -> Iterator[list[str | None]]:
    yield [None for _ in prompts]


async def test_model_that_ranks_nothing_is_refused() -> None:
    async with local_node(ServedModel("words", lambda: BatchBackend(lambda: _no_answers))) as node:
        response = await node.client.post(PATH, json=ASK | {"model": "words"})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "model")
    assert "ranks no documents" in error["message"]
