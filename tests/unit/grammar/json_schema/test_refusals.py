"""What a grammar cannot express is refused: the error names keyword and path, and costs the event loop little."""

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.grammar.errors import GrammarError, SchemaError
from llmactors.grammar.gbnf import parse
from llmactors.grammar.json_schema.convert import schema_grammar
from llmactors.grammar.json_schema.keywords import SERVED, TYPES
from llmactors.testing.schemas import SCHEMAS

HELD_S = 0.05
"""The longest that one conversion may hold the event loop, in seconds."""


def nested(depth: int, keyword: str) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", keyword: schema} if keyword == "items" else {keyword: [schema]}
    return schema


def nested_list(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def chained(count: int) -> Any:
    links = {f"d{number}": {"properties": {"a": {"$ref": f"#/$defs/d{number + 1}"}}} for number in range(count)}
    return {"$defs": {**links, f"d{count}": {}}, "$ref": "#/$defs/d0"}


def inside(schema: Any) -> Any:
    return {"type": "object", "properties": {"a": schema}}


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from((*TYPES, "", "a", "#", "#/a", "date")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from((*sorted(SERVED), "", "a")), inner, max_size=3)
    ),
    max_leaves=6,
)

REFUSED: dict[str, tuple[Any, str, str]] = {
    "not": (inside({"not": {}}), "$.properties.a.not", "`not`"),
    "if": ({"if": {}, "then": {}}, "$.if", "`if`"),
    "patternProperties": (
        {"type": "object", "patternProperties": {"^a": {}}},
        "$.patternProperties",
        "cannot be served",
    ),
    "dependentRequired": (inside({"dependentRequired": {}}), "$.properties.a.dependentRequired", "cannot be served"),
    "contains": ({"type": "array", "contains": {}}, "$.contains", "cannot be served"),
    "uniqueItems": ({"type": "array", "uniqueItems": True}, "$.uniqueItems", "cannot be served"),
    "multipleOf": (inside({"type": "integer", "multipleOf": 5}), "$.properties.a.multipleOf", "`multipleOf`"),
    "unevaluatedProperties": ({"unevaluatedProperties": False}, "$.unevaluatedProperties", "cannot be served"),
    "remote ref": ({"$ref": "https://example.org/a"}, "$.$ref", "within the schema"),
    "lost ref": ({"items": {"$ref": "#/$defs/a"}}, "$.items.$ref", "leads to nothing"),
    "ref with more": ({"$defs": {"a": {}}, "$ref": "#/$defs/a", "minLength": 1}, "$.minLength", "merge"),
    "allOf of two": ({"allOf": [{}, {}]}, "$.allOf", "merge"),
    "empty anyOf": ({"anyOf": []}, "$.anyOf", "not empty"),
    "oneOf that overlaps": ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "$.oneOf", "use `anyOf`"),
    "oneOf of objects": ({"oneOf": [inside({}), inside({})]}, "$.oneOf", "branch 0 and branch 1"),
    "lookahead": ({"type": "string", "pattern": "^(?=a)a"}, "$.pattern", "lookaround"),
    "lookbehind": ({"type": "string", "pattern": "(?<!a)b"}, "$.pattern", "lookaround"),
    "backreference": ({"type": "string", "pattern": r"(a)\1"}, "$.pattern", "backreference"),
    "word boundary": ({"type": "string", "pattern": r"\ba"}, "$.pattern", "word boundary"),
    "unicode class": ({"type": "string", "pattern": r"\p{L}"}, "$.pattern", "escape"),
    "anchor inside": ({"type": "string", "pattern": "a^b"}, "$.pattern", "beginning"),
    "bad pattern": ({"type": "string", "pattern": "(a"}, "$.pattern", "without its"),
    "endless pattern": ({"type": "string", "pattern": "(a*)*"}, "$.pattern", "empty"),
    "unknown format": ({"type": "string", "format": "iri"}, "$.format", "'iri'"),
    "pattern and length": ({"type": "string", "pattern": "a+", "maxLength": 3}, "$.maxLength", "beside `pattern`"),
    "format of wrong kind": ({"format": []}, "$.format", "has to be a text"),
    "enum of wrong kind": ({"enum": {"a": 1}, "const": 1}, "$.enum", "a list of values"),
    "type that is an object": ({"type": [{}]}, "$.type", "no type"),
    "empty type": ({"type": ""}, "$.type", "no type"),
    "unknown type": (inside({"type": "str"}), "$.properties.a.type", "'str'"),
    "type of wrong kind": ({"type": 3}, "$.type", "list of types"),
    "schema of wrong kind": ({"type": "object", "properties": {"a": 3}}, "$.properties.a", "object or a boolean"),
    "text as schema": ("string", "$", "object or a boolean"),
    "properties of wrong kind": ({"properties": []}, "$.properties", "has to be an object"),
    "length of wrong kind": ({"minLength": -1}, "$.minLength", "at least 0"),
    "bound of wrong kind": ({"minimum": "3"}, "$.minimum", "a number"),
    "false": ({"items": False, "minItems": 1}, "$.minItems", "at most 0"),
    "false property": (inside(False), "$.properties.a", "allows no value"),
    "crossed items": ({"minItems": 3, "maxItems": 2}, "$.maxItems", "below `minItems`"),
    "crossed length": ({"minLength": 3, "maxLength": 2}, "$.maxLength", "below `minLength`"),
    "crossed bounds": ({"type": "integer", "minimum": 3, "maximum": 2}, "$", "no integer"),
    "empty range": ({"type": "number", "exclusiveMinimum": 3, "maximum": 3}, "$", "no number"),
    "empty integer range": ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 4}, "$", "no integer"),
    "empty enum": ({"enum": []}, "$.enum", "no value"),
    "enum of another type": (inside({"enum": [1], "type": "string"}), "$.properties.a.enum", "no value"),
    "enum with more": ({"enum": ["a"], "minLength": 1}, "$.minLength", "beside `enum`"),
    "const outside of enum": ({"const": 1, "enum": [2]}, "$.const", "not among"),
    "enum of halves": ({"enum": ["\ud800"]}, "$.enum", "surrogate"),
    "required but forbidden": (
        {"properties": {"a": {}}, "required": ["b"], "additionalProperties": False},
        "$.required",
        "'b' is required",
    ),
    "endless": ({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "$", "never end"),
    "endless array": (
        {"$defs": {"a": {"items": {"$ref": "#/$defs/a"}, "minItems": 1}}, "$ref": "#/$defs/a"},
        "",
        "never end",
    ),
    "ref to itself": ({"$ref": "#"}, "", "never end"),
    "refs in a circle": (
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}}, "$ref": "#/$defs/a"},
        "",
        "begins with itself",
    ),
    "deep": (nested(100_000, "items"), "$.items", "nested more than"),
    "deep anyOf": (nested(100_000, "anyOf"), "$.anyOf", "nested more than"),
    "deep enum": ({"enum": [nested_list(100_000)]}, "$.enum", "nested more than"),
    "deep enum in oneOf": ({"oneOf": [{"const": nested_list(100_000)}, {"const": 1}]}, "$.oneOf", ""),
    "deep ref": ({"$ref": "#" + "/a" * 100_000}, "$.$ref", "leads to nothing"),
    "many properties": ({"properties": {f"p{number}": {} for number in range(100_000)}}, "$.properties", "at most 300"),
    "many values": ({"enum": list(range(100_000))}, "$.enum", "more than 1000"),
    "many branches": ({"oneOf": [{"const": number} for number in range(1000)]}, "$.oneOf", "at most 64"),
    "many refs": (chained(1000), "", "more than 300 subschemas"),
    "long names": ({"properties": {"x" * 100_000: {}}}, "$", "16000"),
    "long names beside others": ({"properties": {"x" * 1500: {}}}, "$.additionalProperties", "set `additional"),
    "long values": ({"enum": ["x" * 100_000]}, "$.enum", "16000"),
    "long pattern": ({"pattern": "(" * 100_000}, "$.pattern", "at most 1000"),
    "nested pattern": ({"pattern": "(" * 500 + ")" * 500}, "$.pattern", "nested more than"),
    "long string": ({"maxLength": 10**9}, "$.maxLength", "at most 20000"),
    "long array": ({"minItems": 10**9}, "$.minItems", "at most 20000"),
    "huge bound": ({"minimum": 10**400}, "$", "digits"),
    "many types": ({"type": ["string"] * 100_000 + ["x"]}, "$.type", "no type"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_names_keyword_and_path(name: str) -> None:
    schema, path, reason = REFUSED[name]
    with pytest.raises(GrammarError) as raised:
        schema_grammar(schema)
    assert reason in raised.value.message
    assert raised.value.message.startswith("$")
    assert len(raised.value.message) < 500
    if path:
        assert raised.value.message.startswith(path)
    if isinstance(raised.value, SchemaError):
        assert raised.value.message.startswith(raised.value.path)


ODD: tuple[Any, ...] = (None, True, 0, -1, 1.5, "x", [], {}, [1], [[]], [{}], {"a": 1}, {"a": []})


@pytest.mark.parametrize("keyword", sorted(SERVED))
def test_any_value_of_a_keyword_is_served_or_refused(keyword: str) -> None:
    for value in ODD:
        for beside in ({}, *({"type": name} for name in TYPES if keyword != "type")):
            try:
                parse(schema_grammar({**beside, keyword: value}))
            except GrammarError as refused:
                assert refused.message  # noqa: PT017 - it may be read as well


@given(schema=st.dictionaries(st.sampled_from(sorted(SERVED)), VALUES, max_size=3))
def test_any_json_is_served_or_refused_as_a_schema(schema: dict[str, Any]) -> None:
    try:
        parse(schema_grammar(schema))
    except GrammarError as refused:
        assert refused.message  # noqa: PT017 - it may be read as well


@pytest.mark.parametrize("least", [999, 1000, 1001, 1999, 2000, 2001])
@pytest.mark.parametrize("most", [None, 2001, 3000, 20_000])
def test_grammar_of_any_length_can_be_read(least: int, most: int | None) -> None:
    parse(schema_grammar({"type": "string", "minLength": least, **({} if most is None else {"maxLength": most})}))


def test_no_schema_holds_the_event_loop() -> None:
    """The best of a few attempts counts, measured in time of the processor, since other processes share the core."""
    schemas = {**{name: case[0] for name, case in REFUSED.items()}, **SCHEMAS}
    slow = {}
    for name, schema in schemas.items():
        for _ in range(8):
            begun = time.thread_time()
            with contextlib.suppress(GrammarError):
                schema_grammar(schema)
            slow[name] = time.thread_time() - begun
            if slow[name] < HELD_S:
                break
    assert not {name: held_s for name, held_s in slow.items() if held_s >= HELD_S}
