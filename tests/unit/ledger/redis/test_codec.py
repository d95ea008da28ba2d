"""Requests as Redis stores them: nodes of different versions can read each other's."""

import attrs
import msgspec
import pytest

from llmactors.ledger import RequestSize
from llmactors.ledger.redis.codec import decode_request, decode_tokens, encode_request, encode_tokens
from llmactors.messages import (
    OPTIONAL_FIELDS,
    ChatMessage,
    Constraint,
    GenerateRequest,
    TokenDelta,
    TokenExtra,
    ToolCall,
    ToolCallDelta,
    ToolUse,
)

CHAT = GenerateRequest(
    "req_1", "m", "", messages=(ChatMessage("user", "hi"),), stop=("x",), created_ms=1_700_000_000_000, metadata="api:é"
)
OPTIONS = GenerateRequest(
    "r",
    "m",
    "",
    prompt_ids=(1, 2, 2**31 - 1),
    messages=(
        ChatMessage("user", "hi"),
        ChatMessage("assistant", "", tool_calls=(ToolCall("call_1", "look", '{"at":"é"}'),)),
        ChatMessage("tool", "sunny", tool_call_id="call_1"),
    ),
    max_tokens_fit=True,
    frequency_penalty=0.5,
    presence_penalty=-2,
    logit_bias=((5, 1.5), (7, -100)),
    ignore_eos=True,
    top_k=40,
    min_p=0.05,
    repeat_penalty=1.1,
    min_tokens=3,
    constraint=Constraint('root ::= "yes" | "no"', trigger="<answer>"),
    tools=ToolUse("[]", "hermes", parallel=False, choice='"required"'),
    response_format='{"type":"json_object"}',
    top_logprobs=0,
    reasoning_effort="low",
    inputs=("a", (1, 2)),
    dimensions=8,
)


def test_each_token_is_an_array_with_its_extra() -> None:
    deltas = [TokenDelta(1, "é"), TokenDelta(2, "b", TokenExtra(reasoning="c"))]
    written = encode_tokens(deltas)
    assert msgspec.msgpack.decode(written) == [[1, "é", None], [2, "b", {"reasoning": "c"}]]
    assert decode_tokens(written) == deltas
    assert decode_tokens(encode_tokens([])) == []


def test_invalid_unicode_in_an_extra_becomes_a_question_mark() -> None:
    broken = TokenExtra(reasoning="a\ud83d", tool_calls=(ToolCallDelta(0, "i", "n\ud83d", "{\ude00"),))
    [read] = decode_tokens(encode_tokens([TokenDelta(1, "\ud83d", broken)]))
    assert read == TokenDelta(1, "\ud83d", TokenExtra(reasoning="a?", tool_calls=(ToolCallDelta(0, "i", "n?", "{?"),)))


@pytest.mark.parametrize("request_", [CHAT, OPTIONS])
def test_request_comes_back_equal(request_: GenerateRequest) -> None:
    assert decode_request(encode_request(request_)) == request_


def test_options_are_what_the_request_demands() -> None:
    scored = attrs.evolve(OPTIONS, query="which?")  # with a query, the inputs are for scores and not for vectors
    assert OPTIONS.demands | scored.demands == set(OPTIONAL_FIELDS)
    assert OPTIONS.demands ^ scored.demands == {"inputs", "query"}


@pytest.mark.parametrize(
    ("request_", "unknown"),
    [(CHAT, ("created_ms", "metadata")), (OPTIONS, ("max_tokens_fit", *OPTIONAL_FIELDS))],
)
def test_fields_unknown_to_an_older_node_have_defaults(request_: GenerateRequest, unknown: tuple[str, ...]) -> None:
    written = msgspec.msgpack.decode(encode_request(request_))
    for name in unknown:
        del written[name]
    defaults = {name: getattr(GenerateRequest("r", "m", ""), name) for name in unknown}
    read = decode_request(msgspec.msgpack.encode(written))
    assert read == attrs.evolve(request_, **defaults)
    assert not read.demands


def test_fields_of_a_newer_node_are_ignored() -> None:
    written = msgspec.msgpack.decode(encode_request(OPTIONS)) | {"unheard_of": [1]}
    assert decode_request(msgspec.msgpack.encode(written)) == OPTIONS


def test_token_ids_count_against_the_queues_bound() -> None:
    assert RequestSize.of(OPTIONS).bytes > RequestSize.of(attrs.evolve(OPTIONS, prompt_ids=())).bytes
