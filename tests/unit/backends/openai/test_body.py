"""Requests to upstreams: each server gets the fields that it knows, under its own names."""

import json
from typing import Any

import attrs
import msgspec
import pytest

from llmactors.backends.openai import OpenAIBackend, OpenAISettings
from llmactors.backends.openai.requests.body import body_of, rules_of
from llmactors.messages import ChatMessage, GenerateRequest, Image, ToolCall, ToolUse

RULES: dict[str, Any] = {"top_k": 40, "min_p": 0.1, "repeat_penalty": 1.2, "min_tokens": 5}
RAW = GenerateRequest("r", "m", "p", max_tokens=8, raw=True, seed=3)


def sent(request: GenerateRequest, engine: str = "openai", count: int = 0) -> dict[str, Any]:
    return body_of(request, "m", "", count, tokens_field="max_tokens", engine=engine)[1]


@pytest.mark.parametrize("engine", ["openai", "vllm", "sglang", "llamacpp"])
def test_backend_declares_what_its_server_is_sent(engine: str) -> None:
    settings = OpenAISettings.parse(f"http://host/v1,model=m,engine={engine}")
    declared = OpenAIBackend(settings).capabilities.honours & RULES.keys()
    assert declared == rules_of(engine)
    body = sent(attrs.evolve(RAW, **{name: RULES[name] for name in declared}), engine)
    assert len(body.keys() - sent(RAW, engine).keys()) == len(declared)


def test_servers_have_their_own_name_of_the_penalty() -> None:
    request = attrs.evolve(RAW, repeat_penalty=1.2)
    assert sent(request, "vllm")["repetition_penalty"] == 1.2
    assert sent(request, "llamacpp")["repeat_penalty"] == 1.2


def test_least_length_shrinks_by_what_is_logged() -> None:
    request = attrs.evolve(RAW, min_tokens=5)
    assert [sent(request, "vllm", count)["min_tokens"] for count in (0, 3, 7)] == [5, 2, 0]


def test_each_route_asks_for_logprobs_in_its_form() -> None:
    asked = attrs.evolve(RAW, top_logprobs=2)
    assert sent(asked)["logprobs"] == 2
    chat = sent(attrs.evolve(asked, raw=False))
    assert (chat["logprobs"], chat["top_logprobs"]) == (True, 2)
    assert "logprobs" not in sent(RAW)


def test_tools_and_forms_are_passed_on() -> None:
    calls = (ToolCall("a", "f", "{}"),)
    messages = (ChatMessage("user", "hi"), ChatMessage("assistant", "", calls), ChatMessage("tool", "4", (), "a"))
    tools = ToolUse('[{"type":"function"}]', "openai", parallel=False, choice='"required"')
    asked = GenerateRequest("r", "m", "", messages=messages, tools=tools, response_format='{"type":"json_object"}')
    body = json.loads(msgspec.json.encode(sent(asked)))
    assert body["messages"] == [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "4", "tool_call_id": "a"},
    ]
    assert (body["tools"], body["tool_choice"]) == ([{"type": "function"}], "required")
    assert (body["parallel_tool_calls"], body["response_format"]) == (False, {"type": "json_object"})
    plain = sent(attrs.evolve(RAW, raw=False))
    assert not plain.keys() & {"tools", "tool_choice", "parallel_tool_calls", "response_format"}


def test_message_with_images_is_sent_as_parts() -> None:
    images = (Image("data:image/png;base64,AAAA", 1), Image("https://h/a.png", 1, "low"))
    messages = (ChatMessage("system", "s"), ChatMessage("user", "ab", images=images))
    assert sent(GenerateRequest("r", "m", "", messages=messages))["messages"] == [
        {"role": "system", "content": "s"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://h/a.png", "detail": "low"}},
                {"type": "text", "text": "b"},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("images", "demands"), [("none", set()), ("data", {"images"}), ("links", {"images", "image_links"})]
)
def test_backend_takes_the_images_that_its_setting_names(images: str, demands: set[str]) -> None:
    settings = OpenAISettings.parse(f"http://host/v1,model=m,images={images}")
    assert OpenAIBackend(settings).capabilities.honours & {"images", "image_links"} == demands
