"""The bodies of Anthropic's API: what they become, and which are refused."""

from typing import Any

import pytest

from llmactors.gateway.anthropic.schema import read_messages, read_prompt
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.messages import ChatMessage, GenerateRequest, Image, ToolCall
from llmactors.tool_calls.functions import ToolChoice

HI = {"role": "user", "content": "hi"}
TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}
IMAGE = {"type": "image", "source": {"type": "url", "url": "http://a/b.png"}}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": [HI], **fields}


def request_of(**fields: Any) -> GenerateRequest:
    choice = read_messages(body(**fields)).choice(None)
    return choice.to_request("r", model="m", tenant="t", priority=1, weight=1.0, resume_grace_s=1.0)


def base64(media_type: str) -> dict[str, Any]:
    return {"type": "base64", "media_type": media_type, "data": "AAAA"}


def turn(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [*blocks]}]}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "cache_control": {"type": "ephemeral"}}


def test_blocks_become_messages() -> None:
    history = [
        {"role": "user", "content": [text("a"), text("b")]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                text("c"),
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("d")], "is_error": True},
                {"type": "tool_result", "tool_use_id": "toolu_2"},
                text("e"),
            ],
        },
    ]
    assert request_of(messages=history, system=[text("s"), text("t")]).messages == (
        ChatMessage("system", "s\nt"),
        ChatMessage("user", "a\nb"),
        ChatMessage("assistant", "c", (ToolCall("toolu_1", "f", '{"x":1}'),)),
        ChatMessage("tool", "d", tool_call_id="toolu_1"),
        ChatMessage("tool", "", tool_call_id="toolu_2"),
        ChatMessage("user", "e"),
    )


def test_images_keep_their_place_among_the_texts() -> None:
    blocks = [IMAGE, text("a"), text("b"), {"type": "image", "source": base64("image/png")}, text("c")]
    images = (Image("http://a/b.png", 0), Image("data:image/png;base64,AAAA", 3))
    assert request_of(**turn(*blocks)).messages == (ChatMessage("user", "a\nbc", images=images),)
    names = read_messages(body(**turn(text("a"), *reversed(blocks)))).choice(None).field_names
    assert names == {"images": "messages[0].content[2]", "image_links": "messages[0].content[5]"}


def test_sampling_fields_reach_the_request() -> None:
    request = request_of(temperature=0.5, top_p=0.9, top_k=40, stop_sequences=["x"], max_tokens=7)
    assert (request.temperature, request.top_p, request.top_k, request.stop) == (0.5, 0.9, 40, ("x",))
    assert (request.max_tokens, request.max_tokens_fit) == (7, True)
    assert (request_of().temperature, request_of(top_p=0).temperature) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        (None, ToolChoice(), True),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(), False),
        ({"type": "any"}, ToolChoice("required"), True),
        ({"type": "tool", "name": "f"}, ToolChoice("required", frozenset({"f"})), True),
    ],
)
def test_tool_choice(choice: Any, expected: ToolChoice, *, parallel: bool) -> None:
    rules = read_messages(body(tools=[TOOL], tool_choice=choice)).choice(None).rules
    assert rules is not None
    assert (rules.tool_choice, rules.parallel) == (expected, parallel)
    assert [(each.name, each.parameters) for each in rules.functions] == [("f", {"type": "object"})]


def test_choice_none_hides_the_tools() -> None:
    assert read_messages(body(tools=[TOOL], tool_choice={"type": "none"})).choice(None).rules is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_tokens": None}, "`max_tokens`"),
        ({"max_tokens": 0}, "`max_tokens`"),
        ({"temperature": 1.5}, "`temperature`"),
        ({"top_k": -1}, "`top_k`"),
        ({"stop_sequences": [""]}, "`stop_sequences[0]`"),
        ({"messages": []}, "`messages`"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "`messages[0].role` must be `user`"),
        ({"messages": [{"role": "user"}]}, "`messages[0].content` must be a text"),
        (turn(text("a"), {"type": "image"}), "`messages[0].content[1].source` must be an image"),
        (turn({"type": "image", "source": {"type": "file"}}), "`messages[0].content[0].source` must be an image"),
        (turn({"type": "image", "source": {"type": "base64", "data": "AAAA"}}), "a text as `media_type`"),
        (turn({"type": "image", "source": base64("text/html")}), "`messages[0].content[0]` must have a URL"),
        (turn({"type": "image", "source": {"type": "url", "url": "file:///a"}}), "must have a URL"),
        ({"messages": [{"role": "assistant", "content": [IMAGE]}]}, "`messages[0].content[0]` is a block of type"),
        (turn({"type": "tool_use"}), "of type 'tool_use'"),
        (
            turn({"type": "tool_result", "tool_use_id": "t", "content": [IMAGE]}),
            "`messages[0].content[0].content[0]` is a block of type 'image'",
        ),
        ({"messages": [HI, {"role": "assistant", "content": [{"type": {}}]}]}, "is a block of type an object"),
        (turn({"type": "tool_result"}), "`messages[0].content[0].tool_use_id`"),
        ({"messages": [HI, {"role": "assistant", "content": [{"type": "tool_use"}]}]}, "`messages[1].content[0].name`"),
        ({"messages": [{"role": "user", "content": ["a"] * 5000}]}, "5000 content blocks"),
        ({"messages": [{"role": "assistant", "content": ""}]}, "no message but empty answers"),
        ({"system": [IMAGE]}, "`system[0]` is a block of type 'image'"),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "`tools[0].type` 'web_search_20250305'"),
        ({"tools": [{"name": "f", "input_schema": 1}]}, "`tools[0].input_schema` must be an object"),
        ({"tools": [TOOL, TOOL]}, "two functions called 'f'"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "names 'g'"),
        ({"tools": [TOOL], "tool_choice": {"type": "some"}}, "`tool_choice.type` must be"),
        ({"tool_choice": {"type": "any"}}, "there are no `tools`"),
        ({"output_config": {"format": {"type": "text"}}}, "`output_config.format` must have"),
        ({"mcp_servers": [{"url": "http://a"}]}, "`mcp_servers` is not served here"),
        ({"container": "c"}, "`container` is not served here"),
    ],
)
def test_wrong_body_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        read_messages(body(**fields)).choice(None)
    assert said in caught.value.message


def test_fields_without_effect_are_ignored() -> None:
    harmless = {"metadata": {"user_id": "u"}, "service_tier": "auto", "betas": ["x"], "context_management": {}}
    assert request_of(**harmless).messages == request_of().messages


def test_thinking_is_shown_where_asked_for() -> None:
    def shows(thinking: Any) -> bool:
        return read_messages(body(thinking=thinking)).shows_thinking

    assert shows({"type": "enabled", "budget_tokens": 1024})
    assert shows({"type": "adaptive"})
    assert not any(map(shows, (None, {"type": "disabled"}, {"type": "adaptive", "display": "omitted"})))
    with pytest.raises(InvalidParameter, match=r"`thinking\.type` must be one of"):
        shows({"type": "much"})


def test_counting_asks_for_one_token() -> None:
    counted = body(system="s", tools=[TOOL])
    del counted["max_tokens"]
    choice = read_prompt(counted).choice(None)
    assert (choice.max_tokens, choice.max_tokens_fit, len(choice.messages)) == (1, True, 2)
    assert choice.rules is not None
