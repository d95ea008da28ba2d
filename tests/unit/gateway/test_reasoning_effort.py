"""How long a model is to think: values that ask for nothing are accepted, and others need a model that knows them."""

from typing import Any

import pytest

from llmactors.backends.base import Capabilities, Takeover
from llmactors.errors import InvalidRequest
from llmactors.gateway.openai.responses.schema import read_response
from llmactors.gateway.openai.schema import ChoiceBody, read_chat, read_completion
from llmactors.gateway.reasoning_effort import served_effort, tags_with
from llmactors.messages import ReasoningTags

PLAIN = Capabilities(1, 100, Takeover.CONTINUE)
THINKS = Capabilities(1, 100, Takeover.CONTINUE, reasoning_tags=ReasoningTags("<think>", "</think>"))
STEERED = Capabilities(1, 100, Takeover.CONTINUE, honours=frozenset({"reasoning_effort"}))


def chat(**fields: Any) -> ChoiceBody:
    return read_chat({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}).choices(None)[0]


def response(**fields: Any) -> ChoiceBody:
    return read_response({"model": "m", "input": "hi", **fields}).choice(None, background_s=1.0, response_ttl_s=1.0)


@pytest.mark.parametrize(
    ("asked", "plain", "thinks"),
    [
        ("none", "", "none"),
        ("minimal", "", "minimal"),
        ("medium", "", ""),
        ("low", "", "low"),
        ("high", "high", "high"),
        ("", "", ""),
    ],
)
def test_value_that_asks_for_nothing_is_dropped(asked: str, plain: str, thinks: str) -> None:
    assert served_effort(asked, PLAIN) == plain
    assert served_effort(asked, THINKS) == thinks
    assert served_effort(asked, STEERED) == asked


def test_answer_without_thinking_begins_outside_of_the_tags() -> None:
    tags = ReasoningTags("<think>", "</think>", begun=True)
    assert tags_with(tags, "none") == ReasoningTags("<think>", "</think>")
    assert tags_with(tags, "high") == tags_with(tags, "") == tags
    assert tags_with(None, "none") is None


def test_both_routes_read_the_effort() -> None:
    assert chat(reasoning_effort="high").reasoning_effort == "high"
    assert response(reasoning={"effort": "high", "summary": "auto"}).reasoning_effort == "high"
    assert chat().reasoning_effort == response(reasoning={}).reasoning_effort == ""


def test_refusal_names_the_field_of_the_route() -> None:
    for body, name in (
        (chat(reasoning_effort="high"), "reasoning_effort"),
        (response(reasoning={"effort": "high"}), "reasoning"),
    ):
        request = body.to_request("r", model="m", tenant="t", priority=1, weight=1.0, resume_grace_s=1.0)
        refused = PLAIN.refusal(request, body.field_names)
        assert refused is not None
        assert refused.message == f"`{name}` is not served by this model; leave it out"


@pytest.mark.parametrize("reasoning", [{"summary": "detailed"}, {"effort": "much"}, "high"])
def test_wrong_reasoning_is_named(reasoning: object) -> None:
    with pytest.raises(InvalidRequest, match="`reasoning"):
        response(reasoning=reasoning)


def test_completion_has_no_reasoning() -> None:
    with pytest.raises(InvalidRequest, match="`reasoning_effort` is not served here"):
        read_completion({"model": "m", "prompt": "hi", "reasoning_effort": "low"})
