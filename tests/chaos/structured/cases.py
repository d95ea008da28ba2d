"""What is asked: each schema and each set of tools, greedy and with a seed, in three APIs. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs
import jsonschema

from llmactors.testing.schemas import NEWEST_SCHEMAS, SCHEMAS
from llmactors.testing.schemas.tool_sets import TOOL_SETS, ToolSet

Api = Literal["chat", "responses", "messages"]
Event = dict[str, Any]

PATHS: Mapping[Api, str] = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
MAX_TOKENS = 150
"""More than any answer that follows a schema has. Where the mock calls none of the tools, its text goes on to this
length."""
_SEEDED = {"temperature": 1.0, "seed": 7}
_SAMPLINGS: Mapping[str, Mapping[str, Any]] = {"greedy": {"temperature": 0.0}, "seed": _SEEDED}
_PROMPT = "Give an example."


@attrs.frozen
class Case:
    """One request, and what its answer has to be like."""

    name: str
    api: Api
    form: str
    """The format of calls of the model that is asked."""
    body: Mapping[str, Any]
    """The body without `model` and `stream`."""
    schema: Any = None
    """The schema of the answer. None: the answer has calls of tools."""
    tools: Mapping[str, Any] = attrs.field(factory=dict)
    """The schema of the arguments of each tool."""
    must_call: bool = False

    def problem(self, events: Sequence[Event]) -> str:
        """What is wrong with a whole answer; empty for a valid one."""
        try:
            text, calls, reason = _READERS[self.api](events)
            if reason not in _ENDS and (calls or self.schema is not None or self.must_call):
                return f"the answer ended with {reason}"
            if self.schema is not None:
                jsonschema.validate(json.loads(text), self.schema)
            for name, arguments in calls:
                jsonschema.validate(json.loads(arguments), self.tools[name])
        except (ValueError, KeyError, jsonschema.ValidationError, jsonschema.SchemaError) as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return "the answer has no call" if self.must_call and not calls else ""


def all_cases() -> Iterator[Case]:
    """Every case. Of the three APIs, only chats can have a seed."""
    for name, schema in SCHEMAS.items():
        for sampling, fields in _SAMPLINGS.items():
            body = _chat(fields) | _schema_fields(schema)
            yield Case(f"{name}, {sampling}", "chat", "hermes", body, NEWEST_SCHEMAS[name])
    for name, tools in TOOL_SETS.items():
        for sampling, fields in _SAMPLINGS.items():
            yield _with_tools(f"{name}, {sampling}", "chat", tools, _chat(fields) | _openai_tools(tools))
        yield _with_tools(f"{name}, greedy", "responses", tools, _response() | _response_tools(tools))
        yield _with_tools(f"{name}, greedy", "messages", tools, _message() | _anthropic_tools(tools))


def _with_tools(name: str, api: Api, tools: ToolSet, body: Mapping[str, Any]) -> Case:
    schemas = {each.name: each.parameters for each in tools.functions}
    return Case(name, api, tools.form, body, tools=schemas, must_call=tools.choice.mode == "required")


def _chat(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": _PROMPT}], "max_tokens": MAX_TOKENS, **fields}


def _schema_fields(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict):
        return {"guided_json": schema}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}


def _response() -> dict[str, Any]:
    return {"input": _PROMPT, "max_output_tokens": MAX_TOKENS, "temperature": 0.0}


def _message() -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": _PROMPT}], "max_tokens": MAX_TOKENS, "temperature": 0.0}


def _openai_tools(tools: ToolSet) -> dict[str, Any]:
    return {"tools": [each.definition for each in tools.functions], "tool_choice": tools.choice.mode}


def _response_tools(tools: ToolSet) -> dict[str, Any]:
    made = [{"type": "function", "name": each.name, "parameters": each.parameters} for each in tools.functions]
    return {"tools": made, "tool_choice": tools.choice.mode}


def _anthropic_tools(tools: ToolSet) -> dict[str, Any]:
    made = [{"name": each.name, "input_schema": each.parameters} for each in tools.functions]
    return {"tools": made, "tool_choice": {"type": "any" if tools.choice.mode == "required" else "auto"}}


Answer = tuple[str, list[tuple[str, str]], str]
"""The text of an answer, the name and the arguments of each call, and why the answer ended."""
_ENDS = {"stop", "tool_calls", "completed", "end_turn", "tool_use"}
"""Why complete answers end."""


def _read_chat(events: Sequence[Event]) -> Answer:
    text, calls = "", list[tuple[str, str]]()
    for event in events:
        delta = event["choices"][0]["delta"]
        text += delta.get("content") or ""
        for part in delta.get("tool_calls", ()):
            if "name" in part["function"]:
                calls.append((part["function"]["name"], ""))
            name, arguments = calls[part["index"]]
            calls[part["index"]] = (name, arguments + part["function"].get("arguments", ""))
    return text, calls, events[-1]["choices"][0]["finish_reason"]


def _read_response(events: Sequence[Event]) -> Answer:
    response = events[-1]["response"]
    texts = [part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]]
    calls = [(item["name"], item["arguments"]) for item in response["output"] if item["type"] == "function_call"]
    return "".join(texts), calls, response["status"]


def _read_message(events: Sequence[Event]) -> Answer:
    text, calls, reason = "", list[tuple[str, str]](), ""
    for event in events:
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            calls.append((event["content_block"]["name"], ""))
        elif event["type"] == "content_block_delta":
            text += event["delta"].get("text", "")
            if "partial_json" in event["delta"]:
                name, arguments = calls[-1]
                calls[-1] = (name, arguments + event["delta"]["partial_json"])
        elif event["type"] == "message_delta":
            reason = event["delta"]["stop_reason"]
    return text, [(name, arguments or "{}") for name, arguments in calls], reason


_READERS = {"chat": _read_chat, "responses": _read_response, "messages": _read_message}
