"""Log probabilities in the forms of OpenAI's routes: a stream and a whole answer show the same."""

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.backends.mock.oracle import mock_tokens
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.logprobs import CompletionLogprobs, chat_logprobs
from llmactors.gateway.openai.render import AnswerForm, ChunkRenderer
from llmactors.gateway.openai.responses.schema import read_response
from llmactors.gateway.openai.schema import read_chat, read_completion
from llmactors.ledger import LogSlice
from llmactors.messages import (
    Finished,
    GenerateRequest,
    TokenDelta,
    TokenExtra,
    TokenLogprob,
    TopLogprob,
    Usage,
)

USER = {"role": "user", "content": "hi"}
ASK = GenerateRequest("r", "m", "hello", max_tokens=8, top_logprobs=3)
DELTAS, _ = mock_tokens(ASK)
END = Finished("length", Usage(1, len(DELTAS)))
HALVES = (
    TokenDelta(1, "", TokenExtra(logprob=TokenLogprob(b"\xc3", -1.0))),
    TokenDelta(2, "é", TokenExtra(logprob=TokenLogprob(b"\xa9", -2.0))),
    TokenDelta(3, "x"),
    TokenDelta(4, "y", TokenExtra(logprob=TokenLogprob(b"y", -3.0, (TopLogprob(4, b"y", -3.0),)))),
)


def shown(value: object) -> Any:
    """The value as clients see it."""
    return json.loads(msgspec.json.encode(value))


def chunks(form: AnswerForm, parts: list[LogSlice]) -> list[dict[str, Any]]:
    renderer = ChunkRenderer(form, "id", ASK)
    events = b"".join(map(renderer.render, parts)).decode().split("\n\n")
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def test_chat_shows_each_token_with_its_bytes() -> None:
    first = shown(chat_logprobs(DELTAS))["content"][0]
    assert first["token"] == DELTAS[0].text
    assert bytes(first["bytes"]).decode() == DELTAS[0].text
    assert len(first["top_logprobs"]) == 3
    assert [top["logprob"] for top in first["top_logprobs"]] == sorted(
        (top["logprob"] for top in first["top_logprobs"]), reverse=True
    )


def test_parts_of_a_character_keep_their_bytes() -> None:
    content = shown(chat_logprobs(HALVES))["content"]
    assert b"".join(bytes(each["bytes"]) for each in content) == b"\xc3\xa9y"
    assert [each["token"] for each in content] == ["\N{REPLACEMENT CHARACTER}", "\N{REPLACEMENT CHARACTER}", "y"]


def test_offsets_of_a_completion_count_characters() -> None:
    found = CompletionLogprobs().feed(HALVES)
    assert found["text_offset"] == [0, 0, 1]
    assert found["token_logprobs"] == [-1.0, -2.0, -3.0]
    assert found["top_logprobs"] == [{}, {}, {"y": -3.0}]


@given(cuts=st.sets(st.integers(1, len(DELTAS) - 1)), chat=st.booleans())
def test_stream_and_whole_answer_have_the_same_tokens(cuts: set[int], chat: bool) -> None:
    form = AnswerForm(chat=chat)
    places = [0, *sorted(cuts), len(DELTAS)]
    parts = [LogSlice(a + 1, DELTAS[a:b]) for a, b in itertools.pairwise(places)]
    parts.append(LogSlice(len(DELTAS) + 1, (), END))
    whole = shown(form.whole("id", [ASK], [LogSlice(1, DELTAS, END)]))["choices"][0]["logprobs"]
    streamed = [found for each in chunks(form, parts) if (found := each["choices"][0]["logprobs"]) is not None]
    for name in ("content",) if chat else ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert [one for found in streamed for one in found[name]] == whole[name]


def test_token_without_text_still_shows_its_logprob() -> None:
    found = chunks(AnswerForm(chat=True), [LogSlice(1, HALVES, END)])
    assert [each["choices"][0]["logprobs"] is not None for each in found] == [True, True, False, True, False]
    assert [each["choices"][0]["delta"].get("content") for each in found] == ["", "é", "x", "y", None]


@pytest.mark.parametrize(
    ("fields", "logged"),
    [
        ({}, None),
        ({"logprobs": False, "top_logprobs": 0}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
    ],
)
def test_chat_asks_for_probabilities_with_two_fields(fields: dict[str, Any], logged: int | None) -> None:
    [choice] = read_chat({"model": "m", "messages": [USER], **fields}).choices(None)
    assert choice.top_logprobs == logged


@pytest.mark.parametrize("fields", [{"top_logprobs": 2}, {"logprobs": 5}, {"logprobs": True, "top_logprobs": 21}])
def test_wrong_chat_field_is_named(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter) as wrong:
        read_chat({"model": "m", "messages": [USER], **fields}).choices(None)
    assert wrong.value.param in fields


@pytest.mark.parametrize(("given", "logged"), [(None, None), (False, None), (0, 0), (5, 5)])
def test_completion_asks_with_a_number(given: object, logged: int | None) -> None:
    [choice] = read_completion({"model": "m", "prompt": "a", "logprobs": given}).choices(None)
    assert choice.top_logprobs == logged


@pytest.mark.parametrize("given", [True, 21, -1, "5"])
def test_wrong_number_of_a_completion_is_refused(given: object) -> None:
    with pytest.raises(InvalidParameter) as wrong:
        read_completion({"model": "m", "prompt": "a", "logprobs": given}).choices(None)
    assert wrong.value.param == "logprobs"


@pytest.mark.parametrize(
    ("fields", "logged"),
    [
        ({}, None),
        ({"include": ["reasoning.encrypted_content"]}, None),
        ({"include": ["message.output_text.logprobs"]}, 0),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 4}, 4),
        ({"top_logprobs": 4}, 4),
    ],
)
def test_response_asks_with_include_or_a_number(fields: dict[str, Any], logged: int | None) -> None:
    assert (
        read_response({"model": "m", "input": "a", **fields})
        .choice(None, background_s=1.0, response_ttl_s=1.0)
        .top_logprobs
        == logged
    )
