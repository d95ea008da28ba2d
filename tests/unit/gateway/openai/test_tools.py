"""The fields about tools are read or refused by name, and answers with calls are rendered as OpenAI's clients read."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from llmactors.backends.base import Capabilities, Takeover
from llmactors.errors import InvalidRequest
from llmactors.gateway.answer_rules import AnswerRules, TextFormat, constraint_of, refusal, tool_use
from llmactors.gateway.openai.errors import InvalidParameter, error_object
from llmactors.gateway.openai.render import AnswerForm, ChunkRenderer
from llmactors.gateway.openai.schema import ChoiceBody, read_chat, read_completion
from llmactors.ledger import LogSlice
from llmactors.messages import (
    ChatMessage,
    Finished,
    GenerateRequest,
    ReasoningTags,
    TokenDelta,
    TokenExtra,
    ToolCall,
    ToolCallDelta,
    ToolUse,
    Usage,
)
from llmactors.tool_calls.functions import Function, ToolChoice
from llmactors.tool_calls.pieces import call_id

USER = {"role": "user", "content": "hi"}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "time", "strict": True}},
]
MODEL = Capabilities(1, 100, Takeover.EXACT, honours=frozenset({"tools", "constraint"}), tool_format="hermes")


CROWDED = {
    "$defs": {"entry": {"properties": {f"p{number}": {"const": 1} for number in range(99)}}},
    "anyOf": [{"items": {"$ref": "#/$defs/entry"}, "maxItems": most} for most in range(2, 8)],
}
"""Six lists, of which no item says which one comes, with items that may begin in 99 ways."""


def chat(**fields: Any) -> ChoiceBody:
    return read_chat({"model": "m", "messages": [USER], **fields}).choices(None)[0]


def rules(**fields: Any) -> AnswerRules:
    found = chat(**fields).rules
    assert found is not None
    return found


def strict(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "strict": True, "parameters": parameters}}


def test_tools_are_read() -> None:
    assert rules(tools=TOOLS, parallel_tool_calls=False) == AnswerRules(
        (
            Function("weather", "d", {"type": "object"}, strict=False, where="tools[0].function.parameters"),
            Function("time", strict=True, where="tools[1].function.parameters"),
        ),
        parallel=False,
    )


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]}}


@pytest.mark.parametrize(
    ("asked", "choice"),
    [
        (None, ToolChoice("auto")),
        ("auto", ToolChoice("auto")),
        ("required", ToolChoice("required")),
        (named("time"), ToolChoice("required", frozenset({"time"}))),
        (allowed("auto", "time"), ToolChoice("auto", frozenset({"time"}))),
        (allowed("required", "time", "weather"), ToolChoice("required", frozenset({"time", "weather"}))),
    ],
)
def test_tool_choice_is_read(asked: object, choice: ToolChoice) -> None:
    assert rules(tools=TOOLS, tool_choice=asked).tool_choice == choice


def test_choice_of_none_hides_the_tools() -> None:
    assert chat(tools=TOOLS, tool_choice="none").rules is None
    assert chat(tools=[]).rules is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": [7]}, "tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "description": 7}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": 1}}]}, "tools"),
        ({"tools": TOOLS * 2}, "tools"),
        ({"tools": TOOLS * 200}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "any"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": 7}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": named("other")}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": allowed("none", "time")}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": allowed("auto")}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": 7}, "guided_json"),
        ({"guided_choice": ["a", ""]}, "guided_choice"),
        ({"guided_grammar": 7}, "guided_grammar"),
        ({"structured_outputs": "x"}, "structured_outputs"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs"),
        ({"structured_outputs": {"json": {}, "regex": "x"}}, "structured_outputs"),
        ({"response_format": {"type": "json_object"}, "guided_choice": ["a"]}, "guided_choice"),
        ({"messages": [{"role": "assistant", "tool_calls": {}}, USER]}, "messages"),
        ({"messages": [{"role": "assistant", "tool_calls": {"a": 1}}, USER]}, "messages"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"type": "custom"}]}, USER]}, "messages"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}, USER]}, "messages"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}, USER]}, "messages"),
    ],
)
def test_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    if fields.get("messages", [{}])[0].get("tool_calls") == {}:
        assert chat(**fields).rules is None  # nothing is asked for
        return
    with pytest.raises(InvalidParameter) as refused:
        chat(**fields)
    assert refused.value.param == param
    assert f"`{param}" in refused.value.message


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ({"response_format": {"type": "json_object"}}, TextFormat("object")),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True}}},
            TextFormat("schema", SCHEMA, strict=True, where="response_format.json_schema.schema"),
        ),
        ({"guided_json": SCHEMA}, TextFormat("schema", SCHEMA, where="guided_json")),
        ({"guided_json": json.dumps(SCHEMA)}, TextFormat("schema", SCHEMA, where="guided_json")),
        ({"guided_json_object": True}, TextFormat("object", where="guided_json_object")),
        ({"guided_choice": ["a", "b"]}, TextFormat("choice", ["a", "b"], where="guided_choice")),
        ({"guided_grammar": "root ::= [a]"}, TextFormat("grammar", "root ::= [a]", where="guided_grammar")),
        ({"guided_regex": "a+"}, TextFormat("regex", "a+", where="guided_regex")),
        ({"grammar": "root ::= [a]"}, TextFormat("grammar", "root ::= [a]", where="grammar")),
        ({"json_schema": SCHEMA}, TextFormat("schema", SCHEMA, where="json_schema")),
        (
            {"structured_outputs": {"regex": "a", "json": None}},
            TextFormat("regex", "a", where="structured_outputs.regex"),
        ),
        ({"structured_outputs": {"json": SCHEMA}}, TextFormat("schema", SCHEMA, where="structured_outputs.json")),
    ],
)  # fmt: skip
def test_form_of_the_text_is_read(fields: dict[str, Any], form: TextFormat) -> None:
    assert rules(**fields) == AnswerRules(text_format=form)
    [body] = read_completion({"model": "m", "prompt": "hi", **fields}).choices(None)
    assert body.rules == AnswerRules(text_format=form)
    constraint = constraint_of(AnswerRules(text_format=form), MODEL)
    assert constraint is not None
    assert constraint.grammar.startswith("root ::=")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}}, "response_format"),
        ({"structured_outputs": {"regex": "a(?=b)"}}, "structured_outputs"),
        ({"guided_grammar": "root ::= other"}, "guided_grammar"),
        ({"guided_json": {"$ref": "http://x"}}, "guided_json"),
        ({"tools": [strict({"not": 1})]}, "tools"),
        ({"guided_json": CROWDED}, "guided_json"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_names_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        constraint_of(rules(**fields), MODEL)
    assert error_object(refused.value)["error"]["param"] == param


def test_model_without_the_ability_refuses_the_clients_field() -> None:
    plain = Capabilities(1, 100, Takeover.EXACT)
    lazy = Capabilities(1, 100, Takeover.EXACT, honours=frozenset({"tools"}), tool_format="hermes")
    for asked, capabilities, field in (
        (rules(tools=TOOLS), plain, "tools"),
        (rules(guided_choice=["a"]), plain, "guided_choice"),
        (rules(structured_outputs={"choice": ["a"]}), plain, "structured_outputs"),
        (rules(tools=TOOLS, tool_choice="required"), lazy, "tool_choice"),
    ):
        refused = refusal(asked, capabilities)
        assert refused is not None
        assert refused.message.startswith(f"`{field}`")
    assert refusal(rules(tools=TOOLS), lazy) is None
    assert constraint_of(rules(tools=TOOLS), lazy) is None
    assert refusal(rules(tools=TOOLS, guided_choice=["a"]), MODEL) is None


def test_tools_travel_in_the_form_of_the_chat_api() -> None:
    found = tool_use(rules(tools=TOOLS, parallel_tool_calls=False), MODEL)
    assert found is not None
    assert (found.format, found.parallel) == ("hermes", False)
    assert json.loads(found.definitions)[0] == TOOLS[0]
    assert tool_use(rules(guided_choice=["a"]), MODEL) is None


def test_history_with_calls_is_read() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    odd = {"function": {"name": "g", "arguments": {"b": 2}}}
    history = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call, odd]},
        {"role": "tool", "tool_call_id": "unknown", "content": [{"type": "text", "text": "4"}]},
        {"role": "tool", "content": "5"},
    ]
    assert chat(messages=history).messages == (
        ChatMessage("user", "hi"),
        ChatMessage("assistant", "", (ToolCall("call_1", "f", '{"a": 1}'), ToolCall("", "g", '{"b":2}'))),
        ChatMessage("tool", "4", tool_call_id="unknown"),
        ChatMessage("tool", "5"),
    )


# Rendering.

THINK = ReasoningTags("<think>", "</think>")
CHAT = AnswerForm(chat=True)
STOP = Finished("stop", Usage(3, 4))


def request(**fields: Any) -> GenerateRequest:
    usual: dict[str, Any] = {"tools": ToolUse("[]", "hermes")}
    return GenerateRequest(id="req_1", model="m", prompt="p", created_ms=1000, **usual | fields)


def chunks(asked: GenerateRequest, deltas: Sequence[TokenDelta], end: Finished = STOP) -> list[dict[str, Any]]:
    renderer = ChunkRenderer(CHAT, "id", asked)
    data = b"".join(renderer.render(LogSlice(seq, (delta,))) for seq, delta in enumerate(deltas, 1))
    data += renderer.render(LogSlice(len(deltas) + 1, (), end))
    *events, done = data.decode().split("\n\n")[:-1]
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]


def whole(asked: GenerateRequest, deltas: Sequence[TokenDelta], end: Finished = STOP) -> dict[str, Any]:
    answer = CHAT.whole("id", [asked], [LogSlice(1, deltas, end)])
    choice: dict[str, Any] = answer["choices"][0]
    return choice


def texts(*parts: str) -> list[TokenDelta]:
    return [TokenDelta(7, part) for part in parts]


def test_call_is_rendered_as_openai_does() -> None:
    deltas = texts("Look: ", "<tool_call>\n", '{"name": "f", "arguments": ', '{"a"', ": 1}", "}\n</tool_call>")
    one = call_id("req_1", 0)
    found = chunks(request(), deltas)
    assert [choice["delta"] for choice in found] == [
        {"role": "assistant", "content": None},
        {"content": "Look:"},
        {"tool_calls": [{"index": 0, "id": one, "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
        {},
    ]
    assert [choice["finish_reason"] for choice in found] == [None] * 5 + ["tool_calls"]
    assert whole(request(), deltas) == {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": "Look:",
            "refusal": None,
            "tool_calls": [{"id": one, "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
        },
        "logprobs": None,
        "finish_reason": "tool_calls",
    }


def test_content_is_null_where_there_are_only_calls() -> None:
    deltas = texts('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>')
    assert whole(request(), deltas)["message"]["content"] is None
    assert not [choice for choice in chunks(request(), deltas) if choice["delta"].get("content")]


def test_cut_call_ends_with_length() -> None:
    deltas = texts('<tool_call>\n{"name": "f", "arguments": {"a', '": ')
    cut = Finished("length", Usage(3, 2))
    choice = whole(request(), deltas, cut)
    assert choice["finish_reason"] == chunks(request(), deltas, cut)[-1]["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"a": '


def test_text_that_was_kept_back_comes_at_the_end() -> None:
    found = chunks(request(), texts("a <tool_"))
    assert [choice["delta"].get("content") for choice in found] == [None, "a", " <tool_", None]
    assert found[-1]["finish_reason"] == "stop"
    assert whole(request(), texts("a <tool_"))["message"]["content"] == "a <tool_"


def test_answer_without_tokens_has_a_role() -> None:
    assert [choice["delta"] for choice in chunks(request(), [])] == [{"role": "assistant", "content": None}, {}]
    assert whole(request(), [])["message"]["content"] == ""


@pytest.mark.parametrize(
    ("asked", "deltas"),
    [
        (request(tools=None, reasoning_tags=THINK), texts("<think>hm", "</think>", "yes")),
        (request(tools=None), [TokenDelta(0, "", TokenExtra(reasoning="hm")), TokenDelta(0, "yes")]),
    ],
)  # fmt: skip
def test_reasoning_has_a_field_of_its_own(asked: GenerateRequest, deltas: list[TokenDelta]) -> None:
    found: list[Mapping[str, Any]] = [choice["delta"] for choice in chunks(asked, deltas)]
    assert found == [{"role": "assistant", "content": None}, {"reasoning_content": "hm"}, {"content": "yes"}, {}]
    message = whole(asked, deltas)["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm", "yes")


def test_calls_of_an_upstream_get_ids_of_their_own() -> None:
    begun = TokenExtra(tool_calls=(ToolCallDelta(0, "theirs", "f"),))
    more = TokenExtra(tool_calls=(ToolCallDelta(0, arguments="{}"),))
    deltas = [TokenDelta(0, "", begun), TokenDelta(0, "", more)]
    for asked in (request(), request(tools=ToolUse("[]", "openai"))):
        choice = whole(asked, deltas)
        assert choice["message"]["tool_calls"] == [
            {"id": call_id("req_1", 0), "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ]
        assert choice["finish_reason"] == "tool_calls"
