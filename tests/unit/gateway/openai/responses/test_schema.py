"""The fields of `/v1/responses` are honoured, or refused by name."""

from typing import Any

import pytest

from llmactors.gateway.openai.errors import InvalidParameter, error_object
from llmactors.gateway.openai.responses.schema import Retrieval, read_query, read_response
from llmactors.gateway.openai.responses.stored import StoredResponse
from llmactors.messages import ChatMessage, GenerateRequest


def request(**fields: Any) -> GenerateRequest:
    ask = read_response({"model": "m", "input": "hi", **fields}).choice(None, background_s=60, response_ttl_s=60)
    return ask.to_request("req_1", model="m", tenant="t", priority=1, weight=1.0, resume_grace_s=1)


def kept(**fields: Any) -> StoredResponse:
    found = StoredResponse.of(request(**fields))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("background_options", {"completion_window": "8h"}),
        ("context_management", [{"type": "compaction"}]),
        ("conversation", "conv_1"),
        ("include", ["file_search_call.results"]),
        ("max_tool_calls", 1),
        ("moderation", {"model": "omni-moderation-latest"}),
        ("n", 2),
        ("prompt", {"id": "pmpt_1"}),
        ("prompt_cache_options", {"prewarm": True}),
        ("reasoning_effort", "low"),
        ("response_format", {"type": "json_object"}),
        ("truncation", "auto"),
    ],
)
def test_unsupported_field_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidParameter, match=f"`{name}` is not served here") as refused:
        request(**{name: value})
    body = error_object(refused.value)["error"]
    assert (body["type"], body["param"], body["code"]) == ("invalid_request_error", name, "invalid_request")


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [], "tool_choice": "auto", "reasoning": None, "include": [], "truncation": "disabled"},
        {"tool_choice": "none", "previous_response_id": None, "text": {"format": {"type": "text"}}, "reasoning": {}},
        {"user": "u1", "service_tier": "auto", "parallel_tool_calls": True, "prompt_cache_key": "k", "text": {}},
        {"stream_options": {"include_obfuscation": False}, "safety_identifier": "s", "something_new": [1]},
    ],
)
def test_field_that_asks_for_nothing_is_ignored(fields: dict[str, Any]) -> None:
    assert request(**fields).messages == (ChatMessage("user", "hi"),)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": ["hi"]}, "input"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input"),
        ({"input": [{"role": ["user"], "content": "x"}]}, "input"),
        ({"input": [{"role": "user"}]}, "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ({"input": [{"type": ["message"], "role": "user", "content": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": ["text"], "text": "x"}]}]}, "input"),
        ({"input": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}]}, "input"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "", "arguments": "{}"}]}, "input"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}]}, "input"),
        ({"text": {"verbosity": "low"}}, "text"),
        ({"text": {"verbosity": []}}, "text"),
        ({"text": {"format": "json"}}, "text"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "mode": [], "tools": []}}, "tool_choice"),
        ({"text": "short"}, "text"),
        ({"background": True, "store": False}, "store"),
        ({"background": "yes"}, "background"),
        ({"instructions": 1}, "instructions"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"model": ""}, "model"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
    ],
)
def test_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        request(**fields)
    assert refused.value.param == param
    assert param in refused.value.message


def test_missing_field_is_named() -> None:
    with pytest.raises(InvalidParameter) as refused:
        read_response({"model": "m"})
    assert refused.value.param == "input"


def test_instructions_and_messages_become_a_conversation() -> None:
    """The input may contain the output of an earlier response."""
    asked = request(
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "In French."},
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "c", "annotations": [], "logprobs": []}],
            },
        ],
    )
    assert asked.messages == (
        ChatMessage("system", "Be brief."),
        ChatMessage("system", "In French."),
        ChatMessage("user", "a\nb"),
        ChatMessage("assistant", "c"),
    )
    assert (asked.prompt, asked.raw) == ("", False)


def test_repeated_fields_are_stored_with_the_request() -> None:
    everything = kept(background=True, metadata={"b": "1", "a": "2"}, max_output_tokens=7, instructions="x")
    assert everything == StoredResponse(
        background=True, instructions=True, max_output_tokens=7, metadata={"a": "2", "b": "1"}
    )
    assert kept() == StoredResponse()
    assert kept(store=False) == StoredResponse(store=False)
    assert request(metadata={"b": "1", "a": "2"}).metadata == request(metadata={"a": "2", "b": "1"}).metadata


@pytest.mark.parametrize("metadata", ["", "{}", "other:{}", "other:responses:{}"])
def test_request_of_another_api_is_no_response(metadata: str) -> None:
    assert StoredResponse.of(GenerateRequest("req_1", "m", "hi", metadata=metadata)) is None


def test_only_background_responses_live_without_a_reader() -> None:
    assert request(background=True).resume_grace_ms == 60_000
    assert request().resume_grace_ms == 1000


def test_query_says_where_to_follow_from() -> None:
    assert read_query("") == read_query("stream=false&something=new") == Retrieval()
    assert read_query("stream=true") == Retrieval(stream=True)
    assert read_query("stream=true&starting_after=0") == Retrieval(stream=True, starting_after=0)
    assert read_query("starting_after=12&stream=true&include_obfuscation=false").starting_after == 12


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("stream=1", "stream"),
        ("starting_after=3", "starting_after"),
        ("stream=true&starting_after=-1", "starting_after"),
        ("stream=true&starting_after=", "starting_after"),
        ("stream=true&starting_after=1e3", "starting_after"),
        ("stream=true&starting_after=9999999999999999", "starting_after"),
        ("include[]=file_search_call.results", "include"),
    ],
)
def test_wrong_query_parameter_is_named(query: str, param: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        read_query(query)
    assert refused.value.param == param
