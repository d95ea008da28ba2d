"""The parts of a grammar that the formats share. Pure."""

from collections.abc import Mapping

from llmactors.grammar.expressions import Expression, Literal, Repetition, choice, optional, sequence
from llmactors.tool_calls.merging import MergedRules

MAX_CALLS = 32
"""How many calls one answer may have: a small model that may repeat a call for ever does so."""
_SPACE = optional(Literal(" "))


def call_objects(
    merged: MergedRules, arguments: Mapping[str, Expression], key: str, end: Expression | str = ""
) -> Expression:
    """One call as a JSON object: the name of a function, and its arguments under `key`. The brace follows `end`."""
    head, middle = sequence('{"name":', _SPACE, '"'), sequence('",', _SPACE, f'"{key}":', _SPACE)
    objects = (sequence(head, name, middle, each, end, "}") for name, each in arguments.items())
    return merged.name("call", choice(objects))


def repeated(merged: MergedRules, call: Expression, between: Expression | str, *, parallel: bool) -> Expression:
    """One call, or several where `parallel` allows them."""
    if not parallel:
        return call
    return sequence(call, Repetition(merged.name("more-calls", sequence(between, call)), 0, MAX_CALLS - 1))
