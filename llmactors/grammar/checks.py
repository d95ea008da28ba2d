"""Refuses grammars that llama.cpp refuses, that need too much memory there, or that no text can follow. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from llmactors.grammar.characters import CharSet
from llmactors.grammar.errors import GrammarError
from llmactors.grammar.expressions import (
    ROOT,
    Choice,
    Expression,
    Grammar,
    Literal,
    Reference,
    Repetition,
    Sequence,
    children,
)
from llmactors.grammar.limits import MAX_ELEMENTS, MAX_REPETITIONS

Name = str


def check_rules(grammar: Grammar, describe: Callable[[Name], str] = "the rule `{}`".format) -> None:
    """Returns if the grammar can be served.

    Args:
        grammar: The grammar to look at.
        describe: How an error names the rule at fault.

    Raises:
        GrammarError: A rule is missing, left-recursive, endless, or too large once its repetitions are written out.
    """
    rules = grammar.rules
    if ROOT not in rules:
        raise GrammarError(f"the grammar has no rule `{ROOT}`")
    users: defaultdict[Name, set[Name]] = defaultdict(set)
    elements = 0
    for name, rule in rules.items():
        for used in references(rule):
            if used not in rules:
                raise GrammarError(f"{describe(name)} uses `{used}`, which is not defined")
            users[used].add(name)
        try:
            elements += _Size(rule).elements
        except GrammarError as error:
            raise GrammarError(f"{describe(name)}: {error.message}") from error
        if elements > MAX_ELEMENTS:
            raise GrammarError(f"the repetitions of the grammar stand for more than {MAX_ELEMENTS} elements")
    ends = _least_fixpoint(rules, users, can_end)
    if endless := next((name for name in rules if name not in ends), None):
        raise GrammarError(f"{describe(endless)} can never end: it always needs itself again")
    empty = _least_fixpoint(rules, users, can_be_empty)
    if left := _left_recursive(rules, empty):
        raise GrammarError(f"{describe(left)} begins with itself (left recursion), so it cannot be followed")


def references(expression: Expression) -> Iterator[Name]:
    """The names of all rules that an expression refers to."""
    todo = [expression]
    while todo:
        if isinstance(part := todo.pop(), Reference):
            yield part.name
        todo += children(part)


def can_end(expression: Expression, ending: "set[Name]") -> bool:
    """Whether some text follows the expression, if the rules in `ending` can end."""
    match expression:
        case Reference(name):
            return name in ending
        case Sequence(items):
            return all(can_end(item, ending) for item in items)
        case Choice(options):
            return any(can_end(option, ending) for option in options)
        case Repetition(item, least):
            return not least or can_end(item, ending)
        case CharSet(ranges):
            return bool(ranges)
        case Literal():
            return True


def can_be_empty(expression: Expression, empty: "set[Name]") -> bool:
    """Whether the empty text follows the expression, if it follows the rules in `empty`."""
    match expression:
        case Reference(name):
            return name in empty
        case Sequence(items):
            return all(can_be_empty(item, empty) for item in items)
        case Choice(options):
            return any(can_be_empty(option, empty) for option in options)
        case Repetition(item, least):
            return not least or can_be_empty(item, empty)
        case Literal() | CharSet():
            return False


def _least_fixpoint(
    rules: Mapping[Name, Expression],
    users: Mapping[Name, set[Name]],
    holds: Callable[[Expression, set[Name]], bool],
) -> set[Name]:
    """The names of the rules for which `holds` follows from the rules for which it holds already."""
    found: set[Name] = set()
    todo = list(rules)
    while todo:
        name = todo.pop()
        if name not in found and holds(rules[name], found):
            found.add(name)
            todo += users.get(name, ())
    return found


def _left_recursive(rules: Mapping[Name, Expression], empty: set[Name]) -> Name | None:
    """A rule that can come to itself again without a character before; None where there is none."""
    done: set[Name] = set()
    for start in rules:
        if start in done:
            continue
        path = {start: None}
        ways = [(start, _leftmost(start, rules[start], empty))]
        while ways:
            name, following = ways[-1]
            if (after := next(following, None)) is None:
                ways.pop()
                path.pop(name)
                done.add(name)
            elif after in path:
                return after
            elif after not in done:
                path[after] = None
                ways.append((after, _leftmost(after, rules[after], empty)))
    return None


def _leftmost(name: Name, expression: Expression, empty: set[Name]) -> Iterator[Name]:
    """The names of the rules that may come first in an expression, which belongs to the rule `name`."""
    match expression:
        case Reference(used):
            yield used
        case Sequence(items):
            for item in items:
                yield from _leftmost(name, item, empty)
                if not can_be_empty(item, empty):
                    return
        case Choice(options):
            for option in options:
                yield from _leftmost(name, option, empty)
        case Repetition(item, _, most):
            if most is None and can_be_empty(item, empty):
                yield name  # llama.cpp makes a rule of the repetition, and that rule begins with itself
            yield from _leftmost(name, item, empty)
        case Literal() | CharSet():
            return


class _Size:
    """What llama.cpp makes of an expression: `elements` in memory, and `names` of rules of its own."""

    def __init__(self, expression: Expression) -> None:
        self.names = 0
        self.elements = 1 + self._count(expression)

    def _count(self, expression: Expression) -> int:
        match expression:
            case Literal(text):
                return len(text)
            case CharSet(ranges):
                return 2 * len(ranges)
            case Reference():
                self.names += 1
                return 1
            case Sequence() | Choice():
                return sum(map(self._count, children(expression))) + len(children(expression))
            case Repetition(item, least, most):
                return self._repeat(item, least, most)

    def _repeat(self, item: Expression, least: int, most: int | None) -> int:
        inside = _Size(item)
        grouped = isinstance(item, Sequence | Choice | Repetition)
        weight = 1 + inside.names if grouped else 1
        if weight * (most or least or 1) > MAX_REPETITIONS:
            raise GrammarError(
                f"a repetition of up to {most or least} times, of a group with {weight} parts, is above"
                f" {MAX_REPETITIONS}; make the group a rule of its own"
            )
        copies = least + (1 if most is None else most - least)
        self.names += inside.names + 1 + (1 if most is None else most - least)
        return copies * (2 if grouped else inside.elements) + (inside.elements if grouped else 0) + 3 * copies
