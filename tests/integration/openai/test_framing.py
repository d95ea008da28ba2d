"""The exact bytes of the OpenAI routes, and a chat with a real model."""

import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import trio

from llmactors.backends.build import serve_models
from llmactors.config import Settings
from llmactors.testing.node import LocalNode, local_node, mock_model

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

CHAT: dict[str, Any] = {"model": "mock", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}


async def post(node: LocalNode, body: dict[str, Any], path: str = "/v1/chat/completions", **headers: str) -> Any:
    return await node.client.post(path, json=body, headers=headers)


async def test_stream_has_only_data_lines() -> None:
    async with local_node(mock_model("step_ms=30"), keep_alive_s=0.01) as node:
        answer = await post(node, {**CHAT, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-request-id"].startswith("req_")
    lines = answer.text.split("\n")
    assert lines[1::2] == [""] * len(lines[1::2])
    events = lines[0::2][:-1]
    assert events[-1] == "data: [DONE]"
    every = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    # Between the tokens, chunks without text keep the connection alive.
    assert len(every) > 4
    silent = [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": None}]
    chunks = [chunk for chunk in every if chunk["choices"] != silent]
    assert [list(chunk) for chunk in chunks] == [["id", "object", "created", "model", "choices"]] * 4
    assert chunks[0]["choices"][0]["delta"].keys() == {"role", "content"}
    assert chunks[-1]["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]


async def test_readers_that_know_only_data_lines_get_all_tokens() -> None:
    """Load generators split at blank lines, strip `data:`, stop at [DONE] and count texts."""
    async with local_node(mock_model()) as node:
        answer = await post(node, {"model": "mock", "prompt": "x", "max_tokens": 5, "stream": True}, "/v1/completions")
    texts = []
    for block in answer.content.split(b"\n\n"):
        data = block.strip().removeprefix(b"data: ")
        if data in {b"", b"[DONE]"}:
            continue
        choice = json.loads(data)["choices"][0]
        if choice["text"]:
            texts.append(choice["text"])
    assert len(texts) == 5


async def test_unfinished_stream_has_no_done_line() -> None:
    async with local_node(mock_model("crash_at=2")) as node:
        answer = await post(node, {**CHAT, "stream": True})
    assert "[DONE]" not in answer.text
    last = answer.text.rstrip("\n").rpartition("\n\n")[2]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "poisoned"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_token_without_text_does_not_end_the_stream(path: str) -> None:
    """A token has no text while its text may begin a stop string."""
    body: dict[str, Any] = {"model": "mock", "messages": CHAT["messages"], "input": "hi"}
    limit = "max_tokens" if "chat" in path else "max_output_tokens"
    async with local_node(mock_model("step_ms=25")) as node:
        whole = await post(node, {**body, limit: 6}, path)
        tokens = re.findall(r" [a-z]+[0-9a-f]{4}", whole.text)
        stop = "".join(tokens[2:4]) + "never"
        answer = await post(node, {**body, limit: 6, "stop": stop, "stream": True}, path)
    texts = "".join(re.findall(r'"(?:content|delta)":"([^"]*)"', answer.text))
    assert texts == "".join(tokens)


async def test_errors_before_the_answer_have_openai_shape() -> None:
    async with local_node(mock_model(), rate_limit="1/h") as node:
        wrong = await post(node, {**CHAT, "n": 99})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "n")
        assert wrong.headers["x-request-id"]
        late = await post(node, CHAT, **{"x-request-deadline": str(int(time.time() * 1000) - 1000)})
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        await post(node, CHAT)
        limited = await post(node, CHAT)
        assert (limited.status_code, limited.json()["error"]["type"]) == (429, "requests")
        assert limited.json()["error"]["code"] == "rate_limit_exceeded"
        assert limited.headers["x-should-retry"] == "true"
        assert int(limited.headers["retry-after"]) >= 1
        assert limited.headers["x-ratelimit-limit-requests"] == "1"
        assert (await node.client.get("/v1/chat/completions")).status_code == 405
        for body in (b"", b"[]", b"{", b'{"model": 1}'):
            assert (await node.client.post("/v1/chat/completions", content=body)).status_code == 400


@pytest.mark.model
async def test_real_model_answers_a_chat(gguf: Path) -> None:
    settings = Settings(model=(f"smol={gguf}",), bind="127.0.0.1:0", slots=2, context=512, threads=1)
    [model] = serve_models(settings)
    async with (
        local_node(model) as node,
        openai.AsyncOpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0) as client,
    ):
        with trio.fail_after(60):
            while (await node.client.get("/readyz")).status_code != httpx.codes.OK:  # noqa: ASYNC110 - no event
                await trio.sleep(0.05)
        messages: list[Any] = [{"role": "user", "content": "Say hello."}]
        whole = await client.chat.completions.create(model="smol", messages=messages, max_tokens=16, temperature=0)
        stream = await client.chat.completions.create(
            model="smol", messages=messages, max_tokens=16, temperature=0, stream=True
        )
        streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        native = await node.client.post(
            "/v1/generate", json={"model": "smol", "prompt": "Say hello.", "max_tokens": 16, "temperature": 0}
        )
    assert whole.choices[0].message.content
    assert streamed == whole.choices[0].message.content == native.json()["text"]
