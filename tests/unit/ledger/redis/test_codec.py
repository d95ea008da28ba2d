"""What is stored in Redis is read by nodes of other versions too."""

import attrs
import msgspec

from llmactors.ledger.redis.codec import decode_request, encode_request
from llmactors.messages import ChatMessage, GenerateRequest

REQUEST = GenerateRequest(
    "req_1", "m", "", messages=(ChatMessage("user", "hi"),), stop=("x",), created_ms=1_700_000_000_000, note="front:é"
)


def test_a_request_comes_back_equal() -> None:
    assert decode_request(encode_request(REQUEST)) == REQUEST


def test_a_request_of_an_older_node_has_the_defaults_of_what_that_did_not_know() -> None:
    fields = msgspec.msgpack.decode(encode_request(REQUEST))
    for name in ("created_ms", "note"):
        del fields[name]
    assert decode_request(msgspec.msgpack.encode(fields)) == attrs.evolve(REQUEST, created_ms=None, note="")


def test_what_a_newer_node_adds_is_passed_over() -> None:
    fields = msgspec.msgpack.decode(encode_request(REQUEST))
    assert decode_request(msgspec.msgpack.encode({**fields, "new": [1]})) == REQUEST
