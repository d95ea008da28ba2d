"""Grammars of schemas: what they generate is valid, and what is valid they accept."""

import json
import random

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.grammar.errors import GrammarError
from llmactors.grammar.json_schema.convert import choice_grammar, json_object, schema_grammar
from llmactors.grammar.machine import machine_for
from llmactors.testing.schemas import NEWEST_SCHEMAS, SCHEMAS
from tests.support.grammar_walks import random_text
from tests.support.schema_values import small_value


@pytest.mark.parametrize("strict", [False, True], ids=["open", "strict"])
@pytest.mark.parametrize("name", SCHEMAS)
def test_every_generated_text_is_valid(name: str, strict: bool) -> None:
    rng = random.Random(f"{name} {strict}")
    machine = machine_for(schema_grammar(SCHEMAS[name], strict=strict))
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    validator = jsonschema.Draft202012Validator(NEWEST_SCHEMAS[name], format_checker=checker)
    for _ in range(8):
        text = random_text(machine, rng)
        validator.validate(json.loads(text))


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_small_valid_value_is_accepted(name: str) -> None:
    rng = random.Random(f"value {name}")
    schema = SCHEMAS[name]
    start = machine_for(schema_grammar(schema)).start
    validator = jsonschema.Draft202012Validator(NEWEST_SCHEMAS[name])
    for _ in range(12):
        value = small_value(schema, rng)
        validator.validate(value)
        for indent in (None, 1, 2):
            text = json.dumps(value, ensure_ascii=False, indent=indent)
            assert start.advance(text).is_complete, text
        assert start.advance(json.dumps(value, ensure_ascii=False, separators=(",", ":"))).is_complete


def test_json_object_is_any_object() -> None:
    start = machine_for(json_object()).start
    for value in ({}, {"a": 1, "b": [True, None, {"c": "\u4f60\n"}]}, {"": {"deep": [[[[[1.5e-7]]]]]}}):
        assert start.advance(json.dumps(value)).is_complete
        assert start.advance(json.dumps(value, indent=2)).is_complete
    assert not start.accepts("[")
    assert not start.accepts('{"a":' + "[" * 9)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), min_size=1, max_size=12))
def test_choice_accepts_its_texts_only(texts: list[str]) -> None:
    start = machine_for(choice_grammar(texts)).start
    assert all(start.advance(text).is_complete for text in texts)
    for text in texts:
        assert text[:-1] in {*texts, ""} or not start.advance(text[:-1]).is_complete


def test_choice_of_many_texts_is_followed_in_few_ways() -> None:
    machine = machine_for(choice_grammar([f"value-{number}" for number in range(1000)]))
    assert len(machine.start.stacks) == 1


@pytest.mark.parametrize("texts", [[], [""], ["a"] * 1001, ["a" * 20_000]])
def test_choice_that_is_empty_or_too_large_is_refused(texts: list[str]) -> None:
    with pytest.raises(GrammarError):
        choice_grammar(texts)


def test_properties_come_in_their_order() -> None:
    schema = {"properties": {"b": {"const": 1}, "a": {"const": 2}, "c": {"const": 3}}, "required": ["a"]}
    start = machine_for(schema_grammar(schema, strict=True)).start
    accepted = ['{"b":1,"a":2}', '{"a": 2, "c": 3}', '{"b":1,\n  "a":2,\n  "c":3\n}', '{"a":2}']
    assert all(start.advance(text).is_complete for text in accepted)
    for text in ('{"a":2,"b"', '{"b":1}', '{"c"', "{}", '{"a":2,}', '{"a":2,"a"', ' {"a"', '{"a":2,"d"'):
        assert not start.accepts(text), text


def test_other_properties_keep_off_declared_names() -> None:
    start = machine_for(schema_grammar({"properties": {"na": {"const": 0}, "name": {"const": 1}}})).start
    for name in ("n", "nam", "names", "nb", "", "x", "\u00e9", 'q"'):
        assert start.advance(json.dumps({name: "any"}, ensure_ascii=False)).is_complete, name
    assert not start.accepts('{"na":"')
    assert not start.accepts('{"name":"')
    assert not start.accepts('{"n\\u0061')
