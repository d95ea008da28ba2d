"""Anthropic's API over HTTP, on nodes with a simulated model. `tests/clients` has the official client."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from llmactors.testing.node import LocalNode, local_node, mock_model

pytestmark = pytest.mark.integration

HI = {"role": "user", "content": "hi you"}
ASK: dict[str, Any] = {"model": "mock", "max_tokens": 5, "messages": [HI]}
TOOL = {
    "name": "f",
    "input_schema": {
        "type": "object",
        "properties": {"a": {"enum": ["x", "y"]}, "b": {"enum": ["long text", "longer text"]}},
        "required": ["a", "b"],
    },
}
CALL: dict[str, Any] = {**ASK, "max_tokens": 200, "tools": [TOOL], "stream": True} | {
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True}
}
KEY = {"Idempotency-Key": "k"}


@pytest.fixture
async def node() -> AsyncIterator[LocalNode]:
    async with local_node(mock_model("context=64")) as running:
        yield running


async def post(node: LocalNode, body: Any, path: str = "/v1/messages", **headers: str) -> httpx.Response:
    return await node.client.post(path, json=body, headers=headers)


async def test_whole_answer(node: LocalNode) -> None:
    response = await post(node, ASK, **{"anthropic-version": "2023-06-01", "anthropic-beta": "x"})
    message = response.json()
    assert response.status_code == 200
    assert response.headers["request-id"] == response.headers["x-request-id"]
    assert message["id"] == "msg_" + response.headers["request-id"].removeprefix("req_")
    [block] = message["content"]
    assert (block["type"], len(block["text"].split())) == ("text", 5)
    assert (message["stop_reason"], message["stop_sequence"]) == ("max_tokens", None)
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (3, 5)


async def test_fields_without_a_value_are_null(node: LocalNode) -> None:
    message = (await post(node, ASK)).json()
    assert (message["container"], message["stop_details"], message["content"][0]["citations"]) == (None, None, None)
    absent = ("cache_creation", "inference_geo", "output_tokens_details", "server_tool_use")
    assert [message["usage"][name] for name in absent] == [None] * len(absent)
    called = (await post(node, CALL | {"stream": False})).json()
    assert [block["caller"] for block in called["content"]] == [{"type": "direct"}]


async def test_stop_sequence_is_named(node: LocalNode) -> None:
    text = (await post(node, ASK)).json()["content"][0]["text"]
    word = text.split()[2]
    message = (await post(node, ASK | {"stop_sequences": ["never", word]})).json()
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", word)
    assert message["content"][0]["text"] == text[: text.index(word)]


async def test_answer_ends_with_the_context(node: LocalNode) -> None:
    message = (await post(node, ASK | {"max_tokens": 64_000})).json()
    assert message["stop_reason"] == "model_context_window_exceeded"
    assert message["usage"]["input_tokens"] + message["usage"]["output_tokens"] == 64


async def test_counting(node: LocalNode) -> None:
    body = {"model": "mock", "messages": [HI], "system": "be good"}
    counted = await post(node, body, "/v1/messages/count_tokens")
    assert counted.json() == {"input_tokens": 6}
    assert (await post(node, ASK | {"system": "be good"})).json()["usage"]["input_tokens"] == 6


async def test_repeated_key_gets_the_same_stream(node: LocalNode) -> None:
    first, again = await post(node, CALL, **KEY), await post(node, CALL, **KEY)
    assert first.text == again.text
    assert first.text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n')
    assert (await post(node, CALL | {"max_tokens": 7}, **KEY)).status_code == 409


async def test_models_have_both_forms(node: LocalNode) -> None:
    listed = (await node.client.get("/v1/models", headers={"anthropic-version": "2023-06-01"})).json()
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("mock", "mock", False)
    assert (listed["data"][0]["type"], listed["data"][0]["display_name"]) == ("model", "mock")


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/v1/messages", ASK | {"max_tokens": 0}, 400, "invalid_request_error"),
        ("/v1/messages", ASK | {"top_k": 5, "tools": [{"type": "bash_20250124"}]}, 400, "invalid_request_error"),
        ("/v1/messages", ASK | {"model": "other"}, 404, "not_found_error"),
        ("/v1/messages/count_tokens", {"model": "mock"}, 400, "invalid_request_error"),
        ("/v1/messages/batches", {}, 404, "not_found_error"),
        ("/v1/messages", ASK | {"messages": [{"role": "user", "content": "a" * 300_000}]}, 413, "request_too_large"),
    ],
)
async def test_refusals(node: LocalNode, path: str, body: Any, status: int, kind: str) -> None:
    for asked in (body, body | {"stream": True}):
        response = await post(node, asked, path)
        error = response.json()
        assert (response.status_code, error["type"], error["error"]["type"]) == (status, "error", kind)
        assert error["request_id"] == response.headers["request-id"]
        assert error["error"]["message"]


async def test_key_and_limits_have_anthropic_forms() -> None:
    async with local_node(mock_model(), api_key="secret", rate_limit="2/min") as node:
        refused = await post(node, ASK)
        assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
        headers = [(await post(node, ASK, **{"x-api-key": "secret"})).headers for _ in range(2)]
        assert [each["anthropic-ratelimit-requests-remaining"] for each in headers] == ["1", "0"]
        assert headers[0]["anthropic-ratelimit-requests-reset"].endswith("Z")
        limited = await post(node, ASK, **{"x-api-key": "secret"})
        assert (limited.status_code, limited.json()["error"]["type"]) == (429, "rate_limit_error")
        assert limited.headers["anthropic-ratelimit-requests-limit"] == "2"
        assert "retry-after" in limited.headers


async def test_crash_at_any_token_changes_no_event() -> None:
    """The backend dies before each token of a call; the bytes of the stream stay the same."""

    async def streamed(options: str = "") -> str:
        async with local_node(mock_model(options)) as node:
            text = (await post(node, CALL, **KEY)).text
            assert node.incarnations()["node/serving/backends/mock"] == (2 if options else 1)
        return text

    undisturbed = await streamed()
    events = [json.loads(line[6:]) for line in undisturbed.splitlines() if line.startswith("data: ")]
    tokens = events[-2]["usage"]["output_tokens"]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert tokens > 10

    async def check(token: int) -> None:
        assert await streamed(f"crash_at={token},crash_times=1") == undisturbed, token

    # To render the traceback of each crash takes longer than all the rest.
    with capture_logs():
        async with trio.open_nursery() as nursery:
            for token in range(1, tokens + 1):
                nursery.start_soon(check, token)
