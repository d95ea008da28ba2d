"""The parts of a grammar that the formats share. Pure."""

import itertools
from collections import defaultdict
from collections.abc import Collection, Mapping

from llmactors.grammar.expressions import Expression, Literal, Repetition, choice, optional, sequence
from llmactors.tool_calls.merging import MergedRules

MAX_CALLS = 32
"""How many calls one answer may have: a small model that may repeat a call for ever does so."""
_SPACE = optional(Literal(" "))


def call_objects(
    merged: MergedRules, arguments: Mapping[str, Expression], key: str, end: Expression | str = ""
) -> Expression:
    """One call as a JSON object: the name of a function, and its arguments under `key`. The brace follows `end`."""
    middle = merged.name("key", sequence('",', _SPACE, f'"{key}":', _SPACE))
    close = merged.name("end", sequence(end, "}"))
    named = by_name(merged, {name: sequence(middle, each, close) for name, each in arguments.items()})
    return merged.name("call", sequence('{"name":', _SPACE, '"', named))


def by_name(merged: MergedRules, ways: Mapping[str, Expression]) -> Expression:
    """One of the names, and what follows that name.

    Names with the same beginning share it. So a model that chooses among 256 functions is followed in a few ways at
    once, and not in 256.
    """
    beginning = _common_beginning(ways)
    following: defaultdict[str, dict[str, Expression]] = defaultdict(dict)
    for name, way in ways.items():
        rest = name[len(beginning) :]
        following[rest[:1]][rest] = way
    if len(ways) == 1:
        return sequence(beginning, *ways.values())
    options = (by_name(merged, group) for group in following.values())
    return sequence(beginning, merged.name("name", choice(options)))


def _common_beginning(names: Collection[str]) -> str:
    # All other names stand between the first and the last one in the alphabet.
    first, last = min(names), max(names)
    shared = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(char for char, _ in shared)


def repeated(merged: MergedRules, call: Expression, between: Expression | str, *, parallel: bool) -> Expression:
    """One call, or several where `parallel` allows them."""
    if not parallel:
        return call
    return sequence(call, Repetition(merged.name("more-calls", sequence(between, call)), 0, MAX_CALLS - 1))
