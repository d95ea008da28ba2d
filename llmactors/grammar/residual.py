"""What is left of a grammar after a text, as a grammar. Pure.

llama.cpp always begins a grammar at its root. A takeover continues an answer in the middle of its grammar, so it sends
the grammar of the rest. The residual accepts a text if the grammar accepts the text so far with that text behind it.
"""

from collections import Counter
from collections.abc import Iterable

from llmactors.grammar.checks import references
from llmactors.grammar.expressions import (
    EMPTY,
    ROOT,
    Choice,
    Expression,
    Grammar,
    Reference,
    Repetition,
    Sequence,
    choice,
    sequence,
)
from llmactors.grammar.gbnf import write
from llmactors.grammar.machine import Stack, State, machine_for


def residual(gbnf: str, text: str) -> str:
    """The text of the grammar that is left of `gbnf` after `text`.

    Raises:
        TextRejected: `text` is no beginning of a text of the grammar.
        TooManyStacks: The grammar is too ambiguous.
    """
    machine = machine_for(gbnf)
    return write(residual_grammar(machine.grammar, machine.start.advance(text)))


def residual_grammar(grammar: Grammar, state: State) -> Grammar:
    """The grammar that is left in `state`, with the rules that it still needs.

    A stack that several other stacks end with becomes a rule of its own, so that the residual stays small.
    """
    names = _name_shared(grammar, state)
    rules: dict[str, Expression] = {}
    ways: list[Expression] = [_written(stack, names, own=None) for stack in state.stacks]
    if state.is_complete:
        ways.append(EMPTY)
    kept = _fresh("left-root", grammar.rules)
    rules[ROOT] = _renamed(choice(ways) if ways else EMPTY, kept)
    for stack, name in names.items():
        rules[name] = _renamed(_written(stack, names, own=stack), kept)
    todo = list(rules.values())
    while todo:
        for used in references(todo.pop()):
            if used not in rules:
                original = ROOT if used == kept else used
                rules[used] = _renamed(grammar.rules[original], kept)
                todo.append(rules[used])
    return Grammar(rules)


def _name_shared(grammar: Grammar, state: State) -> dict[Stack, str]:
    """Names for the stacks that several stacks of the state end with."""
    uses: Counter[Stack] = Counter()
    seen: set[Stack] = set()
    todo = list(state.stacks)
    while todo:
        stack = todo.pop()
        if stack in seen:
            continue
        seen.add(stack)
        if stack.rest is not None:
            uses[stack.rest] += 1
            todo.append(stack.rest)
    shared = [stack for stack, count in uses.items() if count > 1 or stack in state.stacks]
    base = _fresh("left", grammar.rules)
    return {stack: f"{base}-{number}" for number, stack in enumerate(shared, start=1)}


def _written(stack: Stack, names: dict[Stack, str], own: Stack | None) -> Expression:
    """A stack as an expression, down to the first named stack below it."""
    items: list[Expression] = []
    at: Stack | None = stack
    while at is not None:
        if at is not own and at in names:
            items.append(Reference(names[at]))
            break
        items.append(at.top)
        at = at.rest
    return sequence(*items)


def _renamed(expression: Expression, kept: str) -> Expression:
    """The expression with the new name of the old root, which is a rule like any other now."""
    if ROOT not in references(expression):
        return expression
    return _replace(expression, kept)


def _replace(expression: Expression, kept: str) -> Expression:
    match expression:
        case Reference(name):
            return Reference(kept) if name == ROOT else expression
        case Sequence(items):
            return Sequence(tuple(_replace(item, kept) for item in items))
        case Choice(options):
            return Choice(tuple(_replace(option, kept) for option in options))
        case Repetition(item, least, most):
            return Repetition(_replace(item, kept), least, most)
        case _:
            return expression


def _fresh(name: str, rules: Iterable[str]) -> str:
    """A name that no rule begins with."""
    taken = tuple(rules)
    while any(one.startswith(name) for one in taken):
        name += "-"
    return name
