"""Requests in Redis: nodes of two versions read each other's."""

import attrs
import msgspec

from llmactors.ledger import RequestSize
from llmactors.ledger.redis.codec import decode_request, encode_request
from llmactors.messages import OPTIONAL_FIELDS, ChatMessage, GenerateRequest

REQUEST = GenerateRequest(
    "r",
    "m",
    "",
    prompt_ids=(1, 2, 2**31 - 1),
    messages=(ChatMessage("user", "hi"),),
    max_tokens_fit=True,
    frequency_penalty=0.5,
    presence_penalty=-2,
    logit_bias=((5, 1.5), (7, -100)),
)


def test_a_request_comes_back_equal() -> None:
    assert decode_request(encode_request(REQUEST)) == REQUEST
    assert REQUEST.demands == set(OPTIONAL_FIELDS)


def test_a_request_of_an_older_version_has_the_defaults() -> None:
    written = msgspec.msgpack.decode(encode_request(REQUEST))
    for field in ("max_tokens_fit", *OPTIONAL_FIELDS):
        del written[field]
    read = decode_request(msgspec.msgpack.encode(written))
    assert read == GenerateRequest("r", "m", "", messages=REQUEST.messages)
    assert not read.demands


def test_fields_of_a_newer_version_are_passed_over() -> None:
    written = msgspec.msgpack.decode(encode_request(REQUEST)) | {"unheard_of": 1}
    assert decode_request(msgspec.msgpack.encode(written)) == REQUEST


def test_token_ids_count_against_the_room_of_the_queue() -> None:
    assert RequestSize.of(REQUEST).bytes > RequestSize.of(attrs.evolve(REQUEST, prompt_ids=())).bytes
