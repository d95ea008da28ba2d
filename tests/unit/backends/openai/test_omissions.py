"""Which fields a refusal names, what is left out afterwards, and what never is."""

import json
from typing import Any

import pytest

from llmactors.backends.openai import OpenAIBackend, OpenAISettings
from llmactors.backends.openai.requests.body import body_of
from llmactors.backends.openai.requests.omissions import OMITTABLE, Omissions, named_fields
from llmactors.errors import ConfigError
from llmactors.messages import GenerateRequest

SENT: dict[str, Any] = {
    "model": "m",
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "stop": ["x"],
    "max_tokens": 4,
}
OPENAI_LIMIT = {
    "error": {
        "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
        "instead.",
        "type": "invalid_request_error",
        "param": "max_tokens",
        "code": "unsupported_parameter",
    }
}
MISTRAL = {
    "object": "error",
    "message": {
        "detail": [
            {"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}
        ]
    },
    "type": "invalid_request_error",
}
FASTAPI = {"detail": [{"loc": ["body", "stop", 0], "msg": "not permitted", "type": "value_error"}]}
CLAUDE = {"error": {"message": "`temperature` and `top_p` cannot both be specified for this model."}}
TOO_MANY = {"error": {"message": "max_tokens is too large: 4", "param": "max_tokens", "code": "invalid_value"}}


@pytest.mark.parametrize(
    ("refusal", "named", "learnt"),
    [
        (OPENAI_LIMIT, {"max_tokens"}, ["max_tokens"]),
        (MISTRAL, {"stream_options"}, ["stream_options"]),
        (FASTAPI, {"stop"}, ["stop"]),
        (CLAUDE, {"temperature", "top_p"}, []),
        (TOO_MANY, {"max_tokens"}, []),
        ({"error": "unknown field 'stream_options'"}, {"stream_options"}, ["stream_options"]),
        ({"error": {"message": "stream_options needs stream", "param": None}}, {"stream_options"}, ["stream_options"]),
        ({"error": {"message": "please stop", "param": "messages[0].content"}}, set(), []),
        ({"error": {"message": "this model can not stop"}}, set(), []),
        ({}, set(), []),
        ([[[[[[[[]]]]]]]], set(), []),
    ],
)
def test_refusal_teaches_only_what_costs_the_client_nothing(
    refusal: object, named: set[str], learnt: list[str]
) -> None:
    raw = json.dumps(refusal).encode()
    assert named_fields(raw) == named
    omissions = Omissions()
    assert omissions.learn(named_fields(raw), raw.decode(), SENT, 0.0) == learnt
    assert omissions.learn(named_fields(raw), raw.decode(), omissions.body(SENT, 0.0), 0.0) == []


def test_finding_holds_for_an_hour() -> None:
    omissions = Omissions()
    omissions.learn(["stream_options", "max_tokens"], "unknown parameter", SENT, 10.0)
    changed = {name: value for name, value in SENT.items() if name not in {"stream_options", "max_tokens"}}
    assert omissions.body(SENT, 3600.0) == changed | {"max_completion_tokens": 4}
    assert omissions.body(SENT, 3700.0) == SENT


def test_limit_is_not_renamed_back_and_forth() -> None:
    omissions = Omissions()
    assert omissions.learn(["max_tokens"], "unknown parameter", SENT, 0.0)
    sent = omissions.body(SENT, 0.0)
    assert not omissions.learn(["max_completion_tokens"], "unknown parameter", sent, 0.0)


def test_fields_that_no_client_gave_are_not_sent() -> None:
    request = GenerateRequest("r", "m", "p", defaulted=("temperature", "top_p"))
    _, body = body_of(request, "m", "", 0, tokens_field="max_tokens")
    assert not body.keys() & {"temperature", "top_p", "seed", "stop", "frequency_penalty", "logprobs", "tools"}


@pytest.mark.parametrize("name", OMITTABLE)
def test_omitted_field_is_refused_by_name(name: str) -> None:
    fields: dict[str, Any] = {
        "temperature": {"temperature": 0.5},
        "top_p": {"top_p": 0.5},
        "seed": {"seed": 1},
        "frequency_penalty": {"frequency_penalty": 1.0},
        "presence_penalty": {"presence_penalty": 1.0},
        "logit_bias": {"logit_bias": ((1, 1.0),)},
        "logprobs": {"top_logprobs": 1},
        "reasoning_effort": {"reasoning_effort": "low"},
        "response_format": {"response_format": "{}"},
    }
    settings = OpenAISettings.parse(f"http://a/v1,model=m|http://b/v1,model=m,omit={name}")
    capabilities = OpenAIBackend(settings).capabilities
    plain = GenerateRequest("r", "m", "p", defaulted=("temperature", "top_p"), stop=("x",))
    assert capabilities.refusal(plain) is None
    if name in fields:
        given = tuple(each for each in plain.defaulted if each not in fields[name])
        request = GenerateRequest("r", "m", "p", defaulted=given, **fields[name])
        error = capabilities.refusal(request)
        assert error is not None
        assert error.message.startswith(f"`{name}`")


def test_unknown_field_to_omit_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="can be left out"):
        OpenAISettings.parse("http://a/v1,model=m,omit=temperature;messages")
    assert OpenAISettings.parse("http://a/v1,model=m,omit=stop; seed").upstreams[0].omit == ("stop", "seed")
