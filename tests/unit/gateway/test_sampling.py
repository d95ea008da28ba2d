"""The sampling fields of all routes: read the same everywhere, and refused by the names that clients sent."""

from typing import Any

import pytest

from llmactors.backends.base import Capabilities, Takeover
from llmactors.errors import InvalidRequest
from llmactors.gateway.body import GenerationBody, convert
from llmactors.gateway.native.schema import GenerateBody
from llmactors.gateway.openai.responses.schema import read_response
from llmactors.gateway.openai.schema import read_chat, read_completion
from llmactors.messages import Constraint, GenerateRequest

FIELDS: dict[str, Any] = {"top_k": 40, "min_p": 0.05, "repeat_penalty": 1.2, "min_tokens": 3, "ignore_eos": True}
NOTHING: dict[str, Any] = {"top_k": -1, "min_p": 0, "repetition_penalty": 1, "min_tokens": 0, "ignore_eos": False}
PLAIN = Capabilities(1, 100, Takeover.CONTINUE)


def bodies(**fields: Any) -> list[GenerationBody]:
    """The same fields on each route."""
    message = {"role": "user", "content": "hi"}
    return [
        convert({"prompt": "hi", **fields}, GenerateBody),
        read_chat({"model": "m", "messages": [message], **fields}).choices(None)[0],
        read_completion({"model": "m", "prompt": "hi", **fields}).choices(None)[0],
        read_response({"model": "m", "input": "hi", **fields}).choice(None, background_s=1.0, response_ttl_s=1.0),
    ]


def request(body: GenerationBody) -> GenerateRequest:
    return body.to_request("r", model="m", tenant="t", priority=1, weight=1.0, resume_grace_s=1.0)


def test_every_route_reads_the_sampling_fields() -> None:
    for body in bodies(**FIELDS):
        assert {name: getattr(request(body), name) for name in FIELDS} == FIELDS
        assert request(body).demands == set(FIELDS)


def test_both_names_of_the_penalty_mean_the_same() -> None:
    for fields in ({"repetition_penalty": 1.5}, {"repetition_penalty": 1.5, "repeat_penalty": 1.5}):
        assert [request(body).repeat_penalty for body in bodies(**fields)] == [1.5] * 4


def test_values_that_ask_for_nothing_are_accepted() -> None:
    for body in bodies(**NOTHING):
        assert not request(body).demands


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"repeat_penalty": 1.1, "repetition_penalty": 1.2}, "repetition_penalty"),
        ({"min_tokens": 65}, "min_tokens"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 2}, "min_p"),
    ],
)
def test_wrong_value_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^`{named}`"):
        request(convert({"prompt": "hi", **fields}, GenerateBody))
    with pytest.raises(InvalidRequest, match=f"^`{named}`"):
        read_completion({"model": "m", "prompt": "hi", "max_tokens": 64, **fields}).choices(None)


@pytest.mark.parametrize("name", ["top_k", "min_p", "repeat_penalty", "repetition_penalty", "min_tokens", "ignore_eos"])
def test_refusal_names_the_field_that_the_client_sent(name: str) -> None:
    for body in bodies(**{name: 0.5 if name == "min_p" else 2 if name != "ignore_eos" else True}):
        refused = PLAIN.refusal(request(body), body.field_names)
        assert refused is not None
        assert refused.message == f"`{name}` is not served by this model; leave it out"


def test_refusal_names_logprobs_as_the_client_asked_for_them() -> None:
    message = {"role": "user", "content": "hi"}
    chat = read_chat({"model": "m", "messages": [message], "logprobs": True, "top_logprobs": 2}).choices(None)[0]
    response = read_response({"model": "m", "input": "hi", "top_logprobs": 2}).choice(
        None, background_s=1.0, response_ttl_s=1.0
    )
    for body, name in ((chat, "logprobs"), (response, "top_logprobs")):
        refused = PLAIN.refusal(request(body), body.field_names)
        assert refused is not None
        assert refused.message.startswith(f"`{name}` is not served")


def test_prescribed_format_decides_the_end_alone() -> None:
    able = Capabilities(1, 100, Takeover.EXACT, honours=frozenset({"constraint", "ignore_eos", "min_tokens"}))
    for fields, name in (({"ignore_eos": True}, "ignore_eos"), ({"min_tokens": 2}, "min_tokens")):
        asked = GenerateRequest("r", "m", "hi", constraint=Constraint('root ::= "a"'), **fields)
        refused = able.refusal(asked)
        assert refused is not None
        assert refused.message.startswith(f"`{name}`: an answer with a prescribed format")
