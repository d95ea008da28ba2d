"""Constraints for calls of tools: what a grammar allows is read back as valid calls."""

import json
import random
from typing import Any

import jsonschema
import pytest

from llmactors.grammar.ambiguity import check_ambiguity
from llmactors.grammar.errors import GrammarError
from llmactors.grammar.gbnf import parse
from llmactors.grammar.limits import MAX_TEXT
from llmactors.grammar.machine import machine_for
from llmactors.messages import Constraint, ReasoningTags
from llmactors.testing.schemas import SCHEMAS
from llmactors.tool_calls.call_grammar import MAX_CALLS
from llmactors.tool_calls.constraint import after_reasoning, call_constraint
from llmactors.tool_calls.formats import FORMATS
from llmactors.tool_calls.functions import Function, ToolChoice, choice_of
from llmactors.tool_calls.pieces import Content, Reasoning
from tests.support.grammar_walks import random_text
from tests.unit.tool_calls.rendering import RENDERINGS
from tests.unit.tool_calls.test_fold import calls_in, folded

REQUIRED = ToolChoice("required")
TOOLS = [
    Function("weather", "The weather of a place", {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
        "required": ["city"],
    }),
    Function("time"),
    Function("save", parameters={"type": "object", "properties": {"fields": {"type": "object"}}}),
    Function("anything", parameters={}),
]  # fmt: skip
OBJECTS = [name for name, schema in SCHEMAS.items() if isinstance(schema, dict) and schema.get("type") == "object"]


def accepts(constraint: Constraint, text: str) -> bool:
    start = machine_for(constraint.grammar).start
    return start.accepts(text) and start.advance(text).is_complete


def weather(**arguments: Any) -> tuple[str, dict[str, Any]]:
    return "weather", arguments


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("parallel", [False, True], ids=["one", "parallel"])
def test_required_texts_are_valid_calls(form: str, parallel: bool) -> None:
    rng = random.Random(f"{form} {parallel}")
    constraint = call_constraint(form, TOOLS, REQUIRED, parallel=parallel)
    assert not constraint.trigger
    for _ in range(30):
        pieces = folded(random_text(machine_for(constraint.grammar), rng, soft_limit=120), form)
        calls = calls_in(pieces)
        assert calls
        assert parallel or len(calls) == 1
        assert not [piece for piece in pieces if isinstance(piece, Content)]
        for name, arguments in calls:
            tool = next(tool for tool in TOOLS if tool.name == name)
            jsonschema.validate(arguments, tool.definition["function"]["parameters"])


@pytest.mark.parametrize("form", FORMATS)
def test_arguments_follow_the_schemas_of_many_tools(form: str) -> None:
    tools = [Function(f"tool-{n}", parameters=SCHEMAS[name]) for n, name in enumerate(OBJECTS[:12])]
    machine = machine_for(call_constraint(form, tools, REQUIRED, parallel=False).grammar)
    rng = random.Random(form)
    for _ in range(40):
        [(name, arguments)] = calls_in(folded(random_text(machine, rng), form))
        jsonschema.validate(arguments, next(tool.parameters for tool in tools if tool.name == name))


@pytest.mark.parametrize("way", sorted(RENDERINGS.keys() - {"mistral with ids"}))
def test_calls_as_models_write_them_are_allowed(way: str) -> None:
    form, render = RENDERINGS[way]
    one, two = [weather(city="Oslo", days=3)], [weather(city="Oslo"), ("time", {})]
    assert accepts(call_constraint(form, TOOLS, REQUIRED), render(one))
    assert accepts(call_constraint(form, TOOLS, REQUIRED), render(two))
    single = call_constraint(form, TOOLS, REQUIRED, parallel=False)
    assert accepts(single, render(one))
    assert not accepts(single, render(two))
    assert not accepts(single, render([weather(city="Oslo", days=8)]))
    assert not accepts(single, render([weather()]))
    assert not accepts(single, render([("unknown", {})]))
    assert not accepts(single, "Sure! " + render(one))
    assert not accepts(call_constraint(form, TOOLS, REQUIRED), render([*one * (MAX_CALLS + 1)]))


@pytest.mark.parametrize("form", FORMATS)
def test_many_tools_are_followed_in_few_ways(form: str) -> None:
    """Also where a name is the beginning of other names."""
    names = [f"tool_{number}" for number in range(256)]
    constraint = call_constraint(form, [Function(name, parameters={}) for name in names], REQUIRED)
    check_ambiguity(parse(constraint.grammar), most_followed=1000)
    rng = random.Random(form)
    called = {
        name for _ in range(20) for name, _ in calls_in(folded(random_text(machine_for(constraint.grammar), rng), form))
    }
    assert called <= {*names}
    assert len(called) > 10


@pytest.mark.parametrize("form", FORMATS)
def test_only_allowed_tools_are_called(form: str) -> None:
    render = RENDERINGS[form][1]
    named = call_constraint(form, TOOLS, ToolChoice("required", frozenset({"time"})))
    assert accepts(named, render([("time", {})]))
    assert not accepts(named, render([("time", {}), ("time", {})]))
    assert not accepts(named, render([weather(city="Oslo")]))


def test_auto_is_free_until_the_trigger() -> None:
    for form in ("hermes", "mistral"):
        constraint = call_constraint(form, TOOLS, ToolChoice())
        assert constraint == Constraint(call_constraint(form, TOOLS, REQUIRED).grammar, FORMATS[form].trigger)
        assert constraint.grammar.startswith("root ::=")


@pytest.mark.parametrize(
    "text", ["", "Hi", '{"city": 1}', "{", "<b>", "<", '{"names": []}', "<|python_ta", 'See {"name": "f"}']
)
def test_llama3_may_answer_in_text(text: str) -> None:
    constraint = call_constraint("llama3", TOOLS, ToolChoice())
    assert accepts(constraint, text)
    assert folded(text, "llama3") == ([Content(text)] if text else [])


@pytest.mark.parametrize(
    "text", ['{"name": "Bob"}', ' {"name": "x", "parameters": {}}', '{"type": "function"}', '<|python_tag|>print("x")']
)
def test_llama3_begins_no_call_but_of_tools(text: str) -> None:
    assert not accepts(call_constraint("llama3", TOOLS, ToolChoice()), text)


@pytest.mark.parametrize("form", FORMATS)
def test_answer_without_calls_has_the_wanted_form(form: str) -> None:
    constraint = call_constraint(form, TOOLS, ToolChoice(), answer='root ::= "yes" | "no"')
    assert not constraint.trigger
    assert accepts(constraint, "yes")
    assert not accepts(constraint, "maybe")
    assert accepts(constraint, RENDERINGS[form][1]([("time", {})]))


@pytest.mark.parametrize("begun", [False, True], ids=["in the answer", "in the prompt"])
def test_reasoning_comes_before_a_constrained_answer(begun: bool) -> None:
    tags = ReasoningTags("<think>", "</think>", begun=begun)
    constraint = after_reasoning(call_constraint("hermes", TOOLS, REQUIRED), tags)
    call = RENDERINGS["hermes"][1]([("time", {})])
    opening = "" if begun else "<think>"
    assert accepts(constraint, f"{opening}\nhm </thi <</thin {{}}\n</think>\n\n{call}")
    assert not accepts(constraint, f"{opening}hm</think>hm</think>{call}")
    assert accepts(constraint, call) is not begun
    rng = random.Random(7)
    for _ in range(10):
        pieces = folded(random_text(machine_for(constraint.grammar), rng), "hermes", tags)
        assert not [piece for piece in pieces if isinstance(piece, Content)]
        assert calls_in([piece for piece in pieces if not isinstance(piece, Reasoning)])


def test_reasoning_leaves_a_trigger_as_it_is() -> None:
    constraint = call_constraint("hermes", TOOLS, ToolChoice())
    assert after_reasoning(constraint, ReasoningTags("<think>", "</think>")) is constraint


UNSERVED = {"type": "object", "properties": {"a": {"type": "string", "not": {"const": "x"}}}}


def test_strict_refuses_what_cannot_be_served() -> None:
    tool = Function("f", parameters=UNSERVED, strict=True, where="tools[0].function.parameters")
    with pytest.raises(GrammarError, match=r"^`tools\[0\].function.parameters`: \$.properties.a.not: "):
        call_constraint("hermes", [tool], REQUIRED)


@pytest.mark.parametrize("parameters", [UNSERVED, {"type": "array"}, "text", {"properties": 7}, {"$ref": "#/x"}])
def test_other_tools_take_any_object_instead(parameters: object) -> None:
    constraint = call_constraint("hermes", [Function("f", parameters=parameters)], REQUIRED)
    assert accepts(constraint, RENDERINGS["hermes"][1]([("f", {"a": {"b": [1]}})]))


def huge(*, strict: bool) -> list[Function]:
    return [
        Function(
            f"f{n}",
            parameters={
                "type": "object",
                "properties": {f"{'long' * 20}{n}x{k}": {"type": "string"} for k in range(30)},
            },
            strict=strict,
        )
        for n in range(15)
    ]


def test_too_many_schemas_become_any_object() -> None:
    constraint = call_constraint("hermes", huge(strict=False), REQUIRED)
    assert len(constraint.grammar) < MAX_TEXT
    assert accepts(constraint, RENDERINGS["hermes"][1]([("f3", {"x": 1})]))
    with pytest.raises(GrammarError, match=r"^`tools`: the schemas need a grammar of"):
        call_constraint("hermes", huge(strict=True), REQUIRED)


def test_rules_of_schemas_do_not_mix() -> None:
    tools = [
        Function("one", parameters={"type": "object", "properties": {"call": {"enum": ["a" * 30, "b" * 30]}}}),
        Function("two", parameters={"type": "object", "properties": {"call": {"enum": ["c" * 30, "d" * 30]}}}),
    ]
    constraint = call_constraint("hermes", tools, REQUIRED)
    render = RENDERINGS["hermes"][1]
    assert accepts(constraint, render([("one", {"call": "a" * 30}), ("two", {"call": "c" * 30})]))
    assert not accepts(constraint, render([("one", {"call": "c" * 30})]))


def test_definitions_are_those_of_the_chat_api() -> None:
    assert TOOLS[1].definition == {
        "type": "function",
        "function": {"name": "time", "parameters": {"type": "object", "properties": {}}},
    }
    assert json.loads(json.dumps(TOOLS[0].definition))["function"]["description"] == "The weather of a place"


ALLOWED = (
    '{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"f"}}]}}'
)


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        (ToolChoice(), ""),
        (REQUIRED, '"required"'),
        (ToolChoice("required", frozenset({"f"})), '{"type":"function","function":{"name":"f"}}'),
        (ToolChoice("auto", frozenset({"f"})), ALLOWED),
    ],
)
def test_choice_is_passed_on_as_the_chat_api_has_it(choice: ToolChoice, text: str) -> None:
    assert choice_of(choice) == text
