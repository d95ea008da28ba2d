"""`/v1/embeddings` on a node with a simulated model."""

import base64
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import trio

from llmactors.backends.build import ServedModel
from llmactors.backends.custom.batch import BatchBackend
from llmactors.backends.mock.inputs import mock_vector
from llmactors.gateway.openai.inputs_body import MAX_INPUTS
from llmactors.testing.node import LocalNode, local_node, mock_model
from tests.support.longest_hold import LongestHold


def near(found: list[float], expected: tuple[float, ...]) -> bool:
    return found == pytest.approx(expected, abs=1e-6)


async def test_client_gets_vectors_in_order(client: openai.AsyncOpenAI) -> None:
    texts = [f"text {number}" for number in range(100)]
    answer = await client.embeddings.create(model="mock", input=texts)
    assert [item.index for item in answer.data] == list(range(100))
    assert all(near(item.embedding, mock_vector(text, 64)) for item, text in zip(answer.data, texts, strict=True))
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 200


@pytest.mark.parametrize(
    ("given", "inputs"),
    [("a b", ["a b"]), (["a"], ["a"]), ([5, 7], [(5, 7)]), ([[5, 7], [9]], [(5, 7), (9,)])],
)
async def test_every_kind_of_input(client: openai.AsyncOpenAI, given: Any, inputs: list[Any]) -> None:
    answer = await client.embeddings.create(model="mock", input=given, encoding_format="float")
    assert len(answer.data) == len(inputs)
    assert all(near(item.embedding, mock_vector(each, 64)) for item, each in zip(answer.data, inputs, strict=True))


async def test_base64_holds_float32(node: LocalNode) -> None:
    body = {"model": "mock", "input": "a", "encoding_format": "base64", "dimensions": 8, "user": "someone"}
    answer = (await node.client.post("/v1/embeddings", json=body)).json()
    vector = struct.unpack("<8f", base64.b64decode(answer["data"][0]["embedding"]))
    assert near(list(vector), mock_vector("a", 8))
    assert sum(number * number for number in vector) == pytest.approx(1)


@pytest.mark.parametrize(
    ("changes", "param", "said"),
    [
        ({"input": ""}, "input", "`input[0]` is empty"),
        ({"input": []}, "input", "`input` is empty"),
        ({"input": ["a", ""]}, "input", "`input[1]` is empty"),
        ({"input": ["a", 1]}, "input", "must be a text"),
        ({"input": [[1], [-1]]}, "input", "must be a text"),
        ({"input": ["a"] * (MAX_INPUTS + 1)}, "input", f"at most {MAX_INPUTS}"),
        ({"input": None}, "input", "`input`"),
        ({"encoding_format": "int8"}, "encoding_format", "`encoding_format`"),
        ({"dimensions": 0}, "dimensions", "`dimensions`"),
        ({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens", "is not served here"),
    ],
)
async def test_wrong_call_is_refused_by_name(node: LocalNode, changes: Any, param: str, said: str) -> None:
    response = await node.client.post("/v1/embeddings", json={"model": "mock", "input": "a"} | changes)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert said in error["message"]


def _no_answers(prompts: list[str], max_tokens: int) -> Iterator[list[str | None]]:
    yield [None for _ in prompts]


async def test_model_without_embeddings_is_refused() -> None:
    async with local_node(ServedModel("words", lambda: BatchBackend(lambda: _no_answers))) as node:
        response = await node.client.post("/v1/embeddings", json={"model": "words", "input": "a"})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "model")
    assert error["message"] == "`model`: this model makes no embeddings"


@pytest.mark.parametrize("crash_at", [1, 2, 3, 4])
async def test_crash_at_any_vector_is_invisible(crash_at: int) -> None:
    """The backend dies before one vector of every request of the call; the answer is the undisturbed one."""
    texts = [f"text {number}" for number in range(128)]
    async with local_node(mock_model(f"step_ms=1,crash_at={crash_at},crash_times=1")) as node:
        response = await node.client.post("/v1/embeddings", json={"model": "mock", "input": texts})
        incarnation = node.incarnations()["node/serving/backends/mock"]
    assert incarnation == 2
    data = response.json()["data"]
    assert all(near(item["embedding"], mock_vector(text, 64)) for item, text in zip(data, texts, strict=True))


async def test_same_key_asks_once(node: LocalNode) -> None:
    async def ask(text: str) -> httpx.Response:
        headers = {"Idempotency-Key": "k"}
        return await node.client.post("/v1/embeddings", json={"model": "mock", "input": text}, headers=headers)

    first, again, other = await ask("a"), await ask("a"), await ask("b")
    assert first.json() == again.json()
    assert first.headers["x-request-id"] == again.headers["x-request-id"]
    assert other.status_code == 409


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
async def test_largest_call_holds_loop_briefly(encoding_format: str) -> None:
    """2048 vectors of 768 numbers."""
    body = {"model": "mock", "input": ["some words"] * MAX_INPUTS, "encoding_format": encoding_format}
    async with local_node(mock_model("dimensions=768")) as node:
        hold = LongestHold()
        request = node.client.build_request("POST", "/v1/embeddings", json=body)
        trio.lowlevel.add_instrument(hold)
        response = await node.client.send(request, stream=True)
        size = 0
        async for piece in response.aiter_raw():
            size += len(piece)
        trio.lowlevel.remove_instrument(hold)
    assert size > MAX_INPUTS * 768 * 4
    assert hold.seconds < 0.02, hold
