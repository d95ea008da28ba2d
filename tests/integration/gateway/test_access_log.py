"""The access log: every request where it is on, and only errors, in few lines, where it is off."""

import json
from collections.abc import MutableMapping
from typing import Any

import pytest
import structlog

from llmactors.testing.node import LocalNode, local_node, mock_model

pytestmark = pytest.mark.integration

BODY = {"prompt": "a secret prompt", "max_tokens": 4}
Lines = list[MutableMapping[str, Any]]


async def answer(node: LocalNode, path: str, **fields: object) -> int:
    return int((await node.client.post(path, json={**BODY, **fields})).status_code)


def requests_in(lines: Lines) -> Lines:
    return [line for line in lines if line["event"] == "request"]


async def test_each_request_is_a_line_with_its_fate() -> None:
    chat = {"model": "mock", "messages": [{"role": "user", "content": "a secret prompt"}], "stream": True}
    with structlog.testing.capture_logs() as lines:
        async with local_node(mock_model("step_ms=1,crash_at=2,crash_times=1"), access_log=True) as node:
            assert await answer(node, "/v1/generate", stream=True) == 200
            assert (await node.client.post("/v1/chat/completions", json={**chat, "max_tokens": 3})).status_code == 200
            assert await answer(node, "/v1/generate") == 200
            assert await answer(node, "/v1/generate", model="nobody") == 404
    found = requests_in(lines)
    assert [(line["status"], line["code"], line["model"]) for line in found] == [
        (200, None, "mock"),
        (200, None, "mock"),
        (200, None, "mock"),
        (404, "NOT_FOUND", None),
    ]
    first, chat_line, whole, _ = found
    assert (first["tokens"], first["attempts"], first["takeovers"]) == (4, 2, 1)
    assert (first["tenant"], first["key_id"], first["client"]) == ("anonymous", None, "127.0.0.1")
    assert 0 < first["ttft_s"] <= first["seconds"]
    assert (chat_line["tokens"], chat_line["route"]) == (3, "/v1/chat/completions")
    assert chat_line["ttft_s"] > 0
    assert (whole["ttft_s"], whole["prompt_tokens"] > 0) == (None, True)
    assert "secret prompt" not in json.dumps(lines, default=str)


async def test_only_errors_are_logged_and_few_of_them() -> None:
    with structlog.testing.capture_logs() as lines:
        async with local_node(mock_model("step_ms=1,crash_at=1,crash_prompt=poison")) as node:
            assert await answer(node, "/v1/generate") == 200
            assert await answer(node, "/v1/generate", prompt="poison", stream=True) == 200
            for _ in range(30):
                assert await answer(node, "/v1/generate", max_tokens=-1) == 400
    found = requests_in(lines)
    assert (found[0]["code"], found[0]["log_level"], found[0]["attempts"]) == ("POISONED", "warning", 3)
    assert {(line["code"], line["log_level"]) for line in found[1:]} == {("INVALID_REQUEST", "info")}
    assert len(found) == 20
