"""The fields of OpenAI's chat and completion requests are honoured, or refused by name."""

from typing import Any

import pytest

from llmactors.errors import InvalidRequest, from_code
from llmactors.gateway.body import deadline_of
from llmactors.gateway.openai.errors import InvalidParameter, error_object
from llmactors.gateway.openai.schema import ChoiceBody, read_chat, read_completion
from llmactors.messages import ChatMessage

USER = {"role": "user", "content": "hi"}


def chat(**fields: Any) -> list[ChoiceBody]:
    return read_chat({"model": "m", "messages": [USER], **fields}).choices(None)


def completion(**fields: Any) -> list[ChoiceBody]:
    return read_completion({"model": "m", "prompt": "hi", **fields}).choices(None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("best_of", 2),
        ("echo", True),
        ("function_call", "auto"),
        ("functions", [{"name": "f"}]),
        ("modalities", ["text", "audio"]),
        ("prediction", {"type": "content", "content": "x"}),
        ("suffix", "end"),
        ("web_search_options", {}),
    ],
)
def test_unsupported_field_is_refused_by_name(name: str, value: object) -> None:
    for ask in (chat, completion):
        with pytest.raises(InvalidParameter, match=f"`{name}` is not served here") as refused:
            ask(**{name: value})
        body = error_object(refused.value)["error"]
        assert (body["type"], body["param"], body["code"]) == ("invalid_request_error", name, "invalid_request")


@pytest.mark.parametrize(
    ("name", "value"), [("tool_choice", "required"), ("tools", [{"type": "function", "function": {"name": "f"}}])]
)
def test_completion_has_no_tools(name: str, value: object) -> None:
    with pytest.raises(InvalidParameter, match=f"`{name}` is not served here"):
        completion(**{name: value})


@pytest.mark.parametrize(
    "fields",
    [
        {"logprobs": None, "tools": [], "tool_choice": "auto", "frequency_penalty": 0, "echo": False, "best_of": 1},
        {"response_format": {"type": "text"}, "logit_bias": {}, "suffix": None, "modalities": ["text"]},
        {"reasoning_effort": "none", "top_k": -1, "min_p": 0, "repetition_penalty": 1.0, "guided_json": None},
        {"chat_template_kwargs": {}, "ignore_eos": False, "stop_token_ids": [], "thinking": {"type": "disabled"}},
        {"user": "u1", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "something_new": [1]},
    ],
)
def test_field_that_asks_for_nothing_is_ignored(fields: dict[str, Any]) -> None:
    assert len(chat(**fields)) == len(completion(**fields)) == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages"),
        ({"messages": [USER | {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": None, "function_call": {"name": "f"}}]}, "messages"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": {}, "content": "x"}]}, "messages"),
        ({"messages": [7]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}, "messages"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [""]}, "stop"),
        ({"frequency_penalty": 2.1}, "frequency_penalty"),
        ({"presence_penalty": "x"}, "presence_penalty"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": [[5, 1]]}, "logit_bias"),
        ({"messages": [{"role": "user", "content": None}]}, "messages"),
        ({"stop": 3}, "stop"),
        ({"seed": "x"}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options"),
    ],
)
def test_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        chat(**fields)
    assert refused.value.param == param
    assert param in refused.value.message


def test_missing_field_is_named() -> None:
    with pytest.raises(InvalidParameter) as refused:
        read_chat({"messages": [USER]})
    assert refused.value.param == "model"


@pytest.mark.parametrize(
    "prompt",
    [[], [[]], [""], "", ["a"] * 17, [[1]] * 17, ["a", 1], [1, "a"], [[1], "a"], [-1], [1.5], [True], [2**31], 7],
)
def test_malformed_prompts_are_refused(prompt: object) -> None:
    with pytest.raises(InvalidParameter) as refused:
        completion(prompt=prompt)
    assert refused.value.param == "prompt"


def test_conversation_is_kept_as_sent() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "refusal": None},
        {"role": "system", "content": ""},
    ]
    [ask] = read_chat({"model": "m", "messages": messages}).choices(None)
    assert ask.messages == (
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "a\nb"),
        ChatMessage("assistant", ""),
        ChatMessage("system", ""),
    )
    request = ask.to_request("r", model="m", tenant="t", priority=1, weight=1.0, resume_grace_s=0)
    assert (request.prompt, request.raw, request.messages) == ("", False, ask.messages)


def test_calls_without_arguments_have_a_length() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": ""}}
    [choice] = chat(messages=[USER, {"role": "assistant", "tool_calls": [call]}])
    assert choice.prompt_chars == len("hi") + len("look")


def test_each_choice_has_its_own_seed() -> None:
    assert [ask.seed for ask in chat(n=3, seed=2**32 - 1)] == [2**32 - 1, 0, 1]
    assert [ask.seed for ask in chat(n=2)] == [None, None]
    assert [ask.seed for ask in chat(seed=-1)] == [2**32 - 1]


def test_both_names_of_the_token_limit_are_known() -> None:
    assert [ask.max_tokens for ask in chat(max_tokens=5)] == [5]
    assert [ask.max_tokens for ask in chat(max_tokens=5, max_completion_tokens=7)] == [7]
    assert [ask.max_tokens for ask in (*chat(), *completion())] == [512, 16]


def test_only_the_default_token_limit_shrinks_for_the_prompt() -> None:
    asks = [*chat(), *completion(), *chat(max_tokens=5), *chat(max_completion_tokens=5), *completion(max_tokens=5)]
    assert [ask.max_tokens_fit for ask in asks] == [True, True, False, False, False]


def test_prompt_of_token_ids_is_kept() -> None:
    assert [ask.prompt_ids for ask in completion(prompt=[5, 0, 7])] == [(5, 0, 7)]
    asks = completion(prompt=[[5, 6], [7]], n=2)
    assert [ask.prompt_ids for ask in asks] == [(5, 6), (5, 6), (7,), (7,)]
    request = asks[0].to_request("r", model="m", tenant="t", priority=1, weight=1.0, resume_grace_s=0)
    assert (request.prompt, request.prompt_ids, request.raw) == ("", (5, 6), True)
    assert request.demands == {"prompt_ids"}


def test_sampling_fields_reach_the_backend() -> None:
    [ask] = chat(frequency_penalty=0.5, presence_penalty=-1, logit_bias={"7": -100, "5": 1.5, "6": 0})
    request = ask.to_request("r", model="m", tenant="t", priority=1, weight=1.0, resume_grace_s=0)
    assert (request.frequency_penalty, request.presence_penalty) == (0.5, -1)
    assert request.logit_bias == ((5, 1.5), (7, -100))
    assert request.demands == {"frequency_penalty", "presence_penalty", "logit_bias"}
    [nothing] = chat(frequency_penalty=0, logit_bias={})
    assert not nothing.to_request("r", model="m", tenant="t", priority=1, weight=1.0, resume_grace_s=0).demands


def test_completion_prompt_gets_no_template() -> None:
    asks = completion(prompt=["a", "b"], n=2)
    assert [ask.prompt for ask in asks] == ["a", "a", "b", "b"]
    assert asks[0].to_request("r", model="m", tenant="t", priority=1, weight=1.0, resume_grace_s=0).raw


def test_deadline_is_in_whole_milliseconds() -> None:
    assert deadline_of(None) is None
    assert deadline_of("1750000000000") == 1_750_000_000_000
    for wrong in ("soon", "-1", "1.5", "9" * 20):
        with pytest.raises(InvalidRequest, match="X-Request-Deadline"):
            deadline_of(wrong)


def test_backend_refusal_names_its_field() -> None:
    """Of a backend's error, only the code and the message come through a log."""
    told = error_object(from_code("INVALID_REQUEST", "`prompt`: there is no token 7"))["error"]
    assert (told["param"], told["type"], told["code"]) == ("prompt", "invalid_request_error", "invalid_request")
    assert error_object(from_code("CONTEXT_EXCEEDED", "too long"))["error"]["code"] == "context_length_exceeded"
