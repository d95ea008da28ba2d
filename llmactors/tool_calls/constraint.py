"""What the text of an answer has to follow where the model may call tools. Pure.

`auto` without a wanted form of the answer is free text up to the trigger of the format, and calls from there on. In
every other case the grammar holds from the beginning: calls only, or calls or the wanted form.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llmactors.grammar.errors import GrammarError
from llmactors.grammar.expressions import ROOT, Expression, Grammar, choice, literal, optional, sequence
from llmactors.grammar.gbnf import parse, write
from llmactors.grammar.json_schema.convert import json_object, schema_rules
from llmactors.grammar.limits import MAX_TEXT
from llmactors.messages import Constraint, ReasoningTags
from llmactors.tool_calls.formats import FORMATS
from llmactors.tool_calls.free_text import up_to
from llmactors.tool_calls.functions import Function, ToolChoice
from llmactors.tool_calls.merging import MergedRules

_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}


def call_constraint(
    form: str, functions: Sequence[Function], tool_choice: ToolChoice, *, parallel: bool = True, answer: str = ""
) -> Constraint:
    """The constraint of an answer that may call tools.

    The arguments of a function follow the function's schema. A schema that cannot be served is refused for a function
    that is `strict`; for other functions the arguments are any JSON object then. The same holds where the schemas of
    all functions together need too large a grammar.

    Args:
        form: The format in which the model writes calls, a key of `formats.FORMATS`.
        functions: The tools. At least one of them is allowed.
        tool_choice: Which of the tools may be called, and whether one must be.
        parallel: Whether there may be more than one call. A named function is called once.
        answer: A grammar in GBNF that an answer without calls has to follow; empty for free text.

    Raises:
        GrammarError: A schema cannot be served, or the grammar is too large. The text begins with the client's field.
    """
    allowed = [each for each in functions if tool_choice.allowed is None or each.name in tool_choice.allowed]
    try:
        return _constraint(form, allowed, tool_choice, parallel=parallel, answer=answer)
    except _GrammarTooLarge:
        loose = [each if each.strict else attrs.evolve(each, parameters={}) for each in allowed]
        return _constraint(form, loose, tool_choice, parallel=parallel, answer=answer)


def after_reasoning(constraint: Constraint, tags: ReasoningTags) -> Constraint:
    """The constraint for a model that writes its reasoning before the answer. The reasoning is free text.

    Raises:
        GrammarError: The grammar is too large.
    """
    if constraint.trigger:
        return constraint
    merged = MergedRules()
    answer = merged.add(parse(constraint.grammar).rules, "answer")
    reasoning = sequence(
        merged.add(up_to(tags.close), "reasoning"), optional(choice(map(literal, ("\n", "\n\n", " "))))
    )
    reasoning = reasoning if tags.begun else optional(sequence(tags.open, reasoning))
    return Constraint(_written(merged, sequence(reasoning, answer)))


class _GrammarTooLarge(GrammarError):
    """All schemas together need too large a grammar."""


def _constraint(
    form: str, functions: Sequence[Function], tool_choice: ToolChoice, *, parallel: bool, answer: str
) -> Constraint:
    kind = FORMATS[form]
    parallel = parallel and not tool_choice.is_named
    merged = MergedRules()
    arguments = {each.name: merged.add(_arguments(each).rules, "arguments") for each in functions}
    calls = kind.calls(merged, arguments, parallel=parallel)
    if tool_choice.mode == "required":
        return Constraint(_written(merged, calls))
    if answer:
        return Constraint(_written(merged, choice((calls, merged.add(parse(answer).rules, "answer")))))
    if kind.trigger:
        return Constraint(_written(merged, calls), kind.trigger)
    return Constraint(_written(merged, choice((calls, kind.prose))))


@functools.cache
def _any_object() -> Grammar:
    return parse(json_object())


def _arguments(function: Function) -> Grammar:
    try:
        return _of_schema(function)
    except GrammarError as error:
        if function.strict:
            raise GrammarError(f"`{function.where}`: {error.message}") from None
        return _any_object()


def _of_schema(function: Function) -> Grammar:
    schema = function.parameters
    if schema is None:
        return schema_rules(_NOTHING)
    if not isinstance(schema, Mapping) or schema.get("type", "object") != "object":
        raise GrammarError("$: the arguments have to be an object")
    if not schema:
        return _any_object()
    if "$ref" not in schema and "anyOf" not in schema:
        schema = {"type": "object", **schema}
    # Clients seldom write that there are no other arguments, but they mean that.
    return schema_rules(schema, strict=function.strict or not has_open_object(schema))


def has_open_object(schema: object) -> bool:
    """Whether a schema has an object of which nothing but the type is known.

    Then all objects of the schema may have other properties than the declared ones.
    """
    todo: list[Any] = [schema]
    while todo:
        part = todo.pop()
        if isinstance(part, list):
            todo += part
        elif isinstance(part, Mapping):
            if part.get("type") == "object" and not part.keys() & {"properties", "additionalProperties"}:
                return True
            todo += part.values()
    return False


def _written(merged: MergedRules, root: Expression) -> str:
    text = write(Grammar({ROOT: root, **merged.rules}))
    if len(text) > MAX_TEXT:
        raise _GrammarTooLarge(
            f"`tools`: the schemas need a grammar of {len(text)} characters; at most {MAX_TEXT} are allowed"
        )
    try:
        parse(text)
    except GrammarError as error:
        raise _GrammarTooLarge(f"`tools`: {error.message}") from None
    return text
