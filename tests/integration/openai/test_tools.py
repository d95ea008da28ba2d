"""Tools, forms of the text and histories with calls, as the official client uses them, on one simulated model."""

import json
from typing import Any

import httpx
import jsonschema
import openai
import pytest
from openai.types.chat import ChatCompletion

from llmactors.backends.build import ServedModel
from llmactors.backends.openai import OpenAIBackend, OpenAISettings
from llmactors.testing.node import LocalNode, local_node, mock_model

pytestmark = [
    pytest.mark.integration,
    # The client leaves its generators to the garbage collector, and Trio warns about that.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 9}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
    "required": ["city"],
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "weather", "description": "The weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "time"}},
]
ANSWER = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER, "strict": True}}


def ask(prompt: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "mock", "messages": [{"role": "user", "content": prompt}], "max_tokens": 200, **fields}


async def both(client: openai.AsyncOpenAI, asked: dict[str, Any]) -> ChatCompletion:
    """The whole answer, after a check that the stream gives the same."""
    answer: ChatCompletion = await client.chat.completions.create(**asked)
    content, calls, reason = "", list[list[Any]](), None
    async with await client.chat.completions.create(**asked, stream=True) as stream:
        async for chunk in stream:
            [choice] = chunk.choices
            content += choice.delta.content or ""
            reason = choice.finish_reason or reason
            for call in choice.delta.tool_calls or ():
                if call.function.name:
                    calls.append([call.function.name, ""])
                calls[call.index][1] += call.function.arguments
    [one] = answer.choices
    assert (one.finish_reason, one.message.content or "") == (reason, content)
    whole: list[Any] = one.message.tool_calls or []
    assert [[each.function.name, each.function.arguments] for each in whole] == calls
    return answer


def check_calls(answer: ChatCompletion, *, most: int = 32) -> int:
    """Asserts that all calls are valid. Returns how many there are."""
    calls: list[Any] = answer.choices[0].message.tool_calls or []
    for call in calls:
        assert (call.type, call.id[:5]) == ("function", "call_")
        arguments = json.loads(call.function.arguments)
        jsonschema.validate(arguments, WEATHER if call.function.name == "weather" else {"maxProperties": 0})
    assert len({call.id for call in calls}) == len(calls) <= most
    if calls:
        assert answer.choices[0].finish_reason == "tool_calls"
    return len(calls)


async def test_required_tools_are_called(client: openai.AsyncOpenAI) -> None:
    for number in range(4):
        answer = await both(client, ask(f"p{number}", tools=TOOLS, tool_choice="required", seed=number))
        assert check_calls(answer)
        assert answer.choices[0].message.content is None
    single = ask(tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
    assert check_calls(await both(client, single)) == 1


async def test_named_and_allowed_tools_alone_are_called(client: openai.AsyncOpenAI) -> None:
    time = {"type": "function", "function": {"name": "time"}}
    for choice in (time, {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [time]}}):
        answer = await both(client, ask(tools=TOOLS, tool_choice=choice))
        assert check_calls(answer)
        calls: list[Any] = answer.choices[0].message.tool_calls or []
        assert {call.function.name for call in calls} == {"time"}


async def test_free_choice_calls_or_answers(client: openai.AsyncOpenAI) -> None:
    counts = [check_calls(await both(client, ask(f"p{number}", tools=TOOLS, seed=number))) for number in range(6)]
    assert 0 in counts
    assert max(counts) > 0


async def test_tools_and_a_form_give_a_call_or_the_form(client: openai.AsyncOpenAI) -> None:
    kinds = set()
    for number in range(8):
        answer = await client.chat.completions.create(**ask(tools=TOOLS, response_format=FORMAT, seed=number))
        calls = check_calls(answer)
        if not calls:
            jsonschema.validate(json.loads(answer.choices[0].message.content or ""), ANSWER)
        kinds.add(bool(calls))
    assert kinds == {False, True}


async def test_text_has_the_wanted_form(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(**ask(response_format=FORMAT))
    jsonschema.validate(json.loads(answer.choices[0].message.content or ""), ANSWER)
    answer = await client.chat.completions.create(**ask(response_format={"type": "json_object"}))
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)
    for extra, allowed in (
        ({"guided_choice": ["yes", "no"]}, {"yes", "no"}),
        ({"structured_outputs": {"regex": "[ab]c"}}, {"ac", "bc"}),
        ({"grammar": 'root ::= "x" | "y"'}, {"x", "y"}),
    ):
        chat = await client.chat.completions.create(**ask(extra_body=extra))
        text = await client.completions.create(model="mock", prompt="hi", extra_body=extra)
        assert {chat.choices[0].message.content, text.choices[0].text} <= allowed


async def test_agent_loop_sends_calls_back(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(**ask(tools=TOOLS, tool_choice="required"))
    message = answer.choices[0].message
    results: list[Any] = [
        {"role": "tool", "tool_call_id": call.id, "content": "4"} for call in message.tool_calls or ()
    ]
    history: Any = [{"role": "user", "content": "hi"}, message.model_dump(exclude_none=True), *results]
    again = await client.chat.completions.create(model="mock", messages=history, tools=TOOLS)
    assert again.choices[0].finish_reason in {"tool_calls", "length"}


async def test_choices_have_calls_of_their_own(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(**ask(tools=TOOLS, tool_choice="required", n=3))
    ids = [call.id for choice in answer.choices for call in choice.message.tool_calls or ()]
    assert len(answer.choices) == 3
    assert len(set(ids)) == len(ids)


async def read_chunks(node: LocalNode, body: dict[str, Any], key: str) -> list[str]:
    headers = {"idempotency-key": key}
    answer = await node.client.post("/v1/chat/completions", json=body | {"stream": True}, headers=headers)
    return [line for line in answer.text.split("\n\n") if line]


async def test_same_key_gives_the_same_calls_again(node: LocalNode) -> None:
    body = ask(tools=TOOLS, tool_choice="required", seed=3)
    first = await read_chunks(node, body, "k")
    assert '"tool_calls"' in "".join(first)
    assert merged(await read_chunks(node, body, "k")) == merged(first)


def merged(events: list[str]) -> list[Any]:
    """The deltas of a stream, as they came."""
    found = [json.loads(event.removeprefix("data: ")) for event in events if not event.endswith("[DONE]")]
    return [(each["id"], each["choices"][0]["delta"], each["choices"][0]["finish_reason"]) for each in found]


async def test_refusal_of_a_bad_schema_is_cheap_and_named(node: LocalNode) -> None:
    deep: dict[str, Any] = {}
    for _ in range(45):
        deep = {"type": "object", "properties": {"a": deep}}
    bad: list[tuple[dict[str, Any], str]] = [
        ({"properties": {"a": {"not": {}}}}, "$.properties.a.not"),
        (deep, "nested"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "$"),
        ({"type": "string", "enum": [1]}, "$.enum"),
    ]
    for schema, says in bad:
        for fields in (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}},
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": schema}}]},
        ):
            answer: httpx.Response = await node.client.post("/v1/chat/completions", json=ask(**fields))
            assert answer.status_code == 400, answer.text
            error = answer.json()["error"]
            assert error["param"] == next(iter(fields))
            if "type" not in fields:
                assert says in error["message"] or "object" in error["message"], error["message"]


async def test_tools_pass_through_an_upstream(node: LocalNode) -> None:
    upstream = ServedModel("mock", lambda: OpenAIBackend(OpenAISettings.parse(f"{node.url}/v1,model=mock")))
    async with local_node(upstream) as front:
        for number in range(3):
            body = ask(f"p{number}", tools=TOOLS, tool_choice="required", seed=number, parallel_tool_calls=False)
            body["messages"] += [
                {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "time", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "a", "content": "4"},
            ]
            direct = (await node.client.post("/v1/chat/completions", json=body)).json()["choices"][0]
            answer = (await front.client.post("/v1/chat/completions", json=body)).json()["choices"][0]
            assert [call.pop("id")[:5] for call in answer["message"]["tool_calls"]] == ["call_"]
            direct["message"]["tool_calls"][0].pop("id")
            assert answer == direct
            lines = (await front.client.post("/v1/chat/completions", json=body | {"stream": True})).text
            assert lines.count('"arguments":') > 2
        form = (await front.client.post("/v1/chat/completions", json=ask(response_format=FORMAT))).json()
        jsonschema.validate(json.loads(form["choices"][0]["message"]["content"]), ANSWER)
        refused = await front.client.post("/v1/chat/completions", json=ask(guided_choice=["a"]))
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "guided_choice")


async def test_model_without_tools_refuses_them_by_name() -> None:
    async with local_node(mock_model("tool_format=")) as node:
        for fields in (
            {"tools": TOOLS},
            {"messages": [{"role": "user", "content": "hi"}, {"role": "tool", "content": "4"}]},
        ):
            answer = await node.client.post("/v1/chat/completions", json=ask() | fields)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(fields)))
        output = {"type": "function_call_output", "call_id": "c", "output": "4"}
        answer = await node.client.post("/v1/responses", json={"model": "mock", "input": [output]})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
