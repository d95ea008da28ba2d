"""The bodies of `/v1/generate`: every field, with valid and wrong values."""

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.errors import InvalidRequest
from llmactors.gateway.body import convert, parse_object
from llmactors.gateway.native.schema import AttachOp, CancelOp, GenerateBody

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def read(**fields: Any) -> GenerateBody:
    return convert(parse_object(json.dumps({"prompt": "p", **fields}).encode()), GenerateBody)


def test_defaults_are_the_documented_ones() -> None:
    assert read() == GenerateBody(
        prompt="p",
        model=None,
        max_tokens=64,
        temperature=None,
        top_p=None,
        seed=None,
        stop=None,
        stream=False,
        raw=False,
        deadline_ms=None,
        priority=1,
    )


@pytest.mark.parametrize(
    ("fields", "values", "defaulted"),
    [
        ({}, (0.7, 1.0), ("temperature", "top_p")),
        ({"temperature": None, "top_p": 0.5}, (0.7, 0.5), ("temperature",)),
        ({"temperature": 0.7, "top_p": 1}, (0.7, 1.0), ()),
    ],
)
def test_request_knows_which_fields_were_given(
    fields: dict[str, Any], values: tuple[float, float], defaulted: tuple[str, ...]
) -> None:
    request = read(**fields).to_request("r", model="m", tenant="t", priority=1, weight=1, resume_grace_s=1)
    assert ((request.temperature, request.top_p), request.defaulted) == (values, defaulted)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", "\0"),
        ("prompt", "\u2028 \U0001f600"),
        ("model", None),
        ("max_tokens", 1),
        ("max_tokens", 2**31 - 1),
        ("temperature", 0),
        ("temperature", 2),
        ("temperature", 0.5),
        ("top_p", 1),
        ("top_p", 1e-9),
        ("seed", 0),
        ("seed", 2**32 - 1),
        ("seed", None),
        ("stop", "x"),
        ("stop", ["x"] * 16),
        ("stop", []),
        ("stop", None),
        ("deadline_ms", 1),
        ("deadline_ms", 86_400_000),
        ("deadline_ms", None),
        ("priority", 0),
        ("priority", 2),
    ],
)
def test_values_at_the_bounds_are_accepted(field: str, value: object) -> None:
    assert getattr(read(**{field: value}), field) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ""),
        ("prompt", None),
        ("prompt", 1),
        ("prompt", ["p"]),
        ("model", ""),
        ("model", 1),
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", 2**31),
        ("max_tokens", 10**50),
        ("max_tokens", 1.0),
        ("max_tokens", True),
        ("max_tokens", "1"),
        ("max_tokens", None),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "hot"),
        ("temperature", True),
        ("top_p", 0),
        ("top_p", 1.1),
        ("seed", -1),
        ("seed", 2**32),
        ("seed", 1.5),
        ("seed", False),
        ("stop", ""),
        ("stop", "x" * 257),
        ("stop", ["x"] * 17),
        ("stop", ["x", ""]),
        ("stop", [1]),
        ("stop", {}),
        ("stream", 1),
        ("stream", "true"),
        ("raw", 0),
        ("deadline_ms", 0),
        ("deadline_ms", -1),
        ("deadline_ms", 86_400_001),
        ("deadline_ms", True),
        ("priority", -1),
        ("priority", 3),
        ("priority", True),
    ],
)
def test_wrong_value_is_refused_with_its_field_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=f"^`{field}"):
        read(**{field: value})


def test_missing_prompt_is_named() -> None:
    with pytest.raises(InvalidRequest, match="missing required field `prompt`"):
        convert({}, GenerateBody)


def test_unknown_field_error_lists_the_known_fields() -> None:
    with pytest.raises(
        InvalidRequest, match=r"unknown field `max_token`, `n`; known fields are: .*max_tokens"
    ) as raised:
        read(max_token=1, n=2)

    assert "resume" not in raised.value.message


def test_long_unknown_names_are_truncated_in_errors() -> None:
    with pytest.raises(InvalidRequest) as raised:
        read(**{"x" * 100_000: 1}, **{f"y{index}": 1 for index in range(1000)})

    assert len(raised.value.message) < 500


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the body is empty"),
        (b"not json", "not valid JSON"),
        (b'{"prompt":"p"} and more', "not valid JSON"),
        (b'{"prompt":"p"', "not valid JSON"),
        (b"[]", "a JSON object, not a list"),
        (b'"p"', "a JSON object, not a string"),
        (b"1", "a JSON object, not a number"),
        (b"true", "a JSON object, not a boolean"),
        (b"null", "a JSON object, not null"),
        (b'{"prompt":"\xff"}', "not valid UTF-8"),
        (b'{"prompt":"\xed\xa0\x80"}', "not valid UTF-8"),
        (b'{"\xff":1}', "not valid UTF-8"),
        (rb'{"prompt":"\ud800 alone"}', "not valid JSON"),
        (rb'{"\udc00":1}', "not valid JSON"),
        (b'{"temperature":NaN}', "not valid JSON"),
        (b'{"temperature":Infinity}', "not valid JSON"),
        (b'{"temperature":1e999}', "not valid JSON"),
        (b'{"max_tokens":' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_body_that_is_no_json_object_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse_object(data)


def test_last_of_duplicate_json_keys_counts() -> None:
    assert parse_object(b'{"prompt":"first","prompt":"last"}') == {"prompt": "last"}


@given(st.binary())
def test_any_bytes_are_accepted_or_refused(data: bytes) -> None:
    try:
        convert(parse_object(data), GenerateBody)
    except InvalidRequest as error:
        json.dumps(error.message).encode()


@given(st.sampled_from([GenerateBody, AttachOp, CancelOp]), st.dictionaries(st.text(), JSON, max_size=3), st.data())
def test_any_object_is_accepted_or_refused(kind: type, fields: dict[str, Any], data: st.DataObject) -> None:
    known = data.draw(st.dictionaries(st.sampled_from([field.name for field in attrs.fields(kind)]), JSON))
    try:
        convert({**fields, **known}, kind)
    except InvalidRequest as error:
        json.dumps(error.message).encode()


@pytest.mark.parametrize("after", [-1, 10**15, 1.0, "1", True, None])
def test_attach_accepts_only_possible_seqs(after: object) -> None:
    with pytest.raises(InvalidRequest, match=r"^`after`"):
        convert({"id": "x", "after": after}, AttachOp)


@pytest.mark.parametrize("kind", [AttachOp, CancelOp])
def test_socket_operations_need_an_id(kind: type) -> None:
    with pytest.raises(InvalidRequest, match="`id`"):
        convert({}, kind)
    with pytest.raises(InvalidRequest, match=r"^`id`"):
        convert({"id": ""}, kind)


def test_request_for_the_ledger_carries_every_field() -> None:
    body = read(max_tokens=3, temperature=0, top_p=0.5, seed=7, stop=["a", "b"], raw=True, priority=2, deadline_ms=10)
    request = body.to_request("req_1", model="m", tenant="t", priority=2, weight=0.5, resume_grace_s=1.5)

    assert (request.id, request.model, request.tenant, request.resume_grace_ms) == ("req_1", "m", "t", 1500)
    assert (request.prompt, request.max_tokens, request.temperature, request.top_p) == ("p", 3, 0, 0.5)
    assert (request.seed, request.stop, request.raw) == (7, ("a", "b"), True)
    assert (body.priority, request.priority, request.weight) == (2, 2, 0.5)
    assert (request.timeout_ms, request.deadline_ms) == (10, None)
    assert read(stop="x").to_request("r", model="m", tenant="t", priority=1, weight=1.0, resume_grace_s=0).stop == (
        "x",
    )
    assert read().to_request("r", model="m", tenant="t", priority=1, weight=1.0, resume_grace_s=0).timeout_ms is None
