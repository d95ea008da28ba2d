"""The shortest way to a complete text. Pure.

The mock backend and tests follow it to end a text that has become long.
"""

from collections import defaultdict
from collections.abc import Mapping

from llmactors.grammar.characters import CharSet
from llmactors.grammar.checks import references
from llmactors.grammar.expressions import Choice, Expression, Literal, Reference, Repetition, Sequence
from llmactors.grammar.machine import GrammarMachine, Stack, State, first_chars


class ShortestEnds:
    """How many characters each stack of a machine needs at least."""

    def __init__(self, machine: GrammarMachine) -> None:
        self._rules = _least_lengths(machine.grammar.rules)
        self._stacks: dict[Stack, int] = {}

    def __repr__(self) -> str:
        return f"<ShortestEnds of {len(self._rules)} rules>"

    def length(self, state: State) -> int:
        """How many more characters a complete text has at least."""
        return 0 if state.is_complete else min(map(self._stack_length, state.stacks))

    def towards(self, state: State) -> CharSet:
        """The characters after which the shortest complete text is one character nearer."""
        least = min(map(self._stack_length, state.stacks))
        nearest = (stack for stack in state.stacks if self._stack_length(stack) == least)
        return CharSet.of(limits for stack in nearest for limits in first_chars(stack).ranges)

    def _stack_length(self, stack: Stack) -> int:
        known = self._stacks.get(stack)
        if known is not None:
            return known
        path: list[Stack] = []
        at: Stack | None = stack
        while at is not None and at not in self._stacks:
            path.append(at)
            at = at.rest
        length = 0 if at is None else self._stacks[at]
        for one in reversed(path):
            length += _length(one.top, self._rules) or 0
            self._stacks[one] = length
        return length


def _least_lengths(rules: Mapping[str, Expression]) -> dict[str, int]:
    """The length of the shortest text of each rule. A rule is looked at again after a rule that it uses has changed."""
    users: defaultdict[str, set[str]] = defaultdict(set)
    for name, rule in rules.items():
        for used in references(rule):
            users[used].add(name)
    found: dict[str, int] = {}
    todo = dict.fromkeys(reversed(list(rules)))
    while todo:
        name = next(iter(todo))
        del todo[name]
        length = _length(rules[name], found)
        if length is not None and length < found.get(name, length + 1):
            found[name] = length
            todo |= dict.fromkeys(users[name])
    return found


def _length(expression: Expression, rules: Mapping[str, int]) -> int | None:
    """The length of the shortest text of an expression; None where the lengths of its rules are not known yet."""
    match expression:
        case Literal(text):
            return len(text)
        case CharSet():
            return 1
        case Reference(name):
            return rules.get(name)
        case Sequence(items):
            lengths = [_length(item, rules) for item in items]
            return None if None in lengths else sum(length or 0 for length in lengths)
        case Choice(options):
            known = [length for option in options if (length := _length(option, rules)) is not None]
            return min(known) if known else None
        case Repetition(item, least):
            length = 0 if not least else _length(item, rules)
            return None if length is None else length * least
