"""A grammar as frozen values. Pure.

A grammar has rules, and a rule is a name for an expression. `gbnf` reads and writes the text of a grammar.
"""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import attrs

from llmactors.grammar.characters import CharSet

ROOT = "root"
"""The name of the rule that a whole text follows."""


@attrs.frozen(cache_hash=True)
class Literal:
    """This text, which has at least one character."""

    text: str


@attrs.frozen(cache_hash=True)
class Reference:
    """What the rule of this name says."""

    name: str


@attrs.frozen(cache_hash=True)
class Sequence:
    """One item after the other. Without items: the empty text."""

    items: tuple["Expression", ...]


@attrs.frozen(cache_hash=True)
class Choice:
    """One of the options."""

    options: tuple["Expression", ...]


@attrs.frozen(cache_hash=True)
class Repetition:
    """The item, at least `least` times, and at most `most` times where that is not None."""

    item: "Expression"
    least: int
    most: int | None


Expression: TypeAlias = CharSet | Literal | Reference | Sequence | Choice | Repetition

EMPTY = Sequence(())
"""The empty text."""


@attrs.frozen
class Grammar:
    """The rules of a grammar by their names. A text belongs to the grammar if it follows the rule `ROOT`."""

    rules: Mapping[str, Expression]


def sequence(*items: Expression | str) -> Expression:
    """The items one after the other; a `str` is a literal. Nested sequences and neighbouring literals are joined."""
    flat: list[Expression] = []
    for item in items:
        made = literal(item) if isinstance(item, str) else item
        for part in made.items if isinstance(made, Sequence) else (made,):
            if isinstance(part, Literal) and flat and isinstance(last := flat[-1], Literal):
                flat[-1] = Literal(last.text + part.text)
            else:
                flat.append(part)
    return flat[0] if len(flat) == 1 else Sequence(tuple(flat))


def choice(options: Iterable[Expression]) -> Expression:
    """One of the options, each of them once; nested choices are joined. Needs at least one option."""
    flat: dict[Expression, None] = {}
    for option in options:
        for part in option.options if isinstance(option, Choice) else (option,):
            flat[part] = None
    found = tuple(flat)
    return found[0] if len(found) == 1 else Choice(found)


def literal(text: str) -> Expression:
    """The text, which may be empty."""
    return Literal(text) if text else EMPTY


def optional(item: Expression) -> Expression:
    """The item, or nothing."""
    return item if item == EMPTY else Repetition(item, 0, 1)


def children(expression: Expression) -> tuple[Expression, ...]:
    """The expressions directly inside of an expression."""
    match expression:
        case Sequence(items):
            return items
        case Choice(options):
            return options
        case Repetition(item):
            return (item,)
        case _:
            return ()
