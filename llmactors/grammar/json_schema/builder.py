"""Collects the rules of a grammar for JSON, and counts what the grammar costs. Pure."""

import re
from collections.abc import Callable

from llmactors.grammar.characters import CharSet
from llmactors.grammar.errors import SchemaError
from llmactors.grammar.expressions import (
    ROOT,
    Expression,
    Literal,
    Reference,
    Repetition,
    choice,
    sequence,
)
from llmactors.grammar.json_schema.limits import MAX_COSTLY_PATTERNS, MAX_SCHEMAS, MAX_VALUE_CHARS, MAX_VALUES
from llmactors.grammar.limits import MAX_REPETITIONS

_NO_NAME = re.compile(r"[^A-Za-z0-9]+")
_LONGEST_HINT = 24
_BLOCK = 1_000
"""How many items a rule stands for where more items are allowed than llama.cpp can count."""


class GrammarBuilder:
    """The rules of one grammar while it grows."""

    def __init__(self) -> None:
        self.rules: dict[str, Expression] = {}
        self.paths: dict[str, str] = {}
        """Which part of the schema each rule stands for."""
        self._names: dict[Expression, Reference] = {}
        self._schemas = 0
        self._values = 0
        self._chars = 0
        self._costly_patterns = 0

    def __repr__(self) -> str:
        return f"<GrammarBuilder with {len(self.rules)} rules>"

    def reserve(self, hint: str, path: str) -> str:
        """A new name, similar to `hint`, for a rule that is added later."""
        base = _NO_NAME.sub("-", hint)[:_LONGEST_HINT].strip("-") or "part"
        name, number = base, 1
        while name in self.paths or name == ROOT:
            number += 1
            name = f"{base}-{number}"
        self.paths[name] = path
        return name

    def named(self, hint: str, expression: Expression, path: str) -> Expression:
        """The expression as a rule, unless the expression is short. Equal expressions share a rule."""
        if isinstance(expression, Reference | CharSet | Literal):
            return expression
        known = self._names.get(expression)
        if known is None:
            name = self.reserve(hint, path)
            self.rules[name] = expression
            known = self._names[expression] = Reference(name)
        return known

    def shared(self, name: str, make: Callable[[], Expression]) -> Reference:
        """The rule `name`, which is made at its first use. No property of a schema has a part in it."""
        key = f"json-{name}"
        if key not in self.rules:
            self.paths[key] = "$"
            self.rules[key] = sequence()  # `make` may refer to the rule
            self.rules[key] = make()
        return Reference(key)

    def repeat(self, item: Expression, least: int, most: int | None, path: str) -> Expression:
        """The item, `least` to `most` times, also where llama.cpp cannot count so far."""
        if max(least, most or 0) <= MAX_REPETITIONS:
            return Repetition(item, least, most)
        block = self.named("block", Repetition(item, _BLOCK, _BLOCK), path)
        if least >= _BLOCK:
            rest = None if most is None else most - _BLOCK
            return sequence(block, self.named("more", self.repeat(item, least - _BLOCK, rest, path), path))
        if most is None:
            return Repetition(item, least, None)
        more = self.named("more", self.repeat(item, 0, most - _BLOCK, path), path)
        few = self.named("few", Repetition(item, least, _BLOCK - 1), path)
        return choice((few, sequence(block, more)))

    def count_schema(self, path: str) -> None:
        """Counts one subschema. Raises `SchemaError` where there are too many."""
        self._schemas += 1
        if self._schemas > MAX_SCHEMAS:
            raise SchemaError(path, f"the schema has more than {MAX_SCHEMAS} subschemas")

    def count_values(self, values: int, path: str) -> None:
        """Counts the values of an `enum`. Raises `SchemaError` where there are too many."""
        self._values += values
        if self._values > MAX_VALUES:
            raise SchemaError(path, f"the schema has more than {MAX_VALUES} values in its `enum`s")

    def count_costly_pattern(self, path: str) -> None:
        """Counts a pattern whose ambiguity has to be tried. Raises `SchemaError` where there are too many."""
        self._costly_patterns += 1
        if self._costly_patterns > MAX_COSTLY_PATTERNS:
            raise SchemaError(path, f"the schema has more than {MAX_COSTLY_PATTERNS} patterns with high counts")

    def count_text(self, text: str, path: str) -> None:
        """Counts a text that the grammar holds. Raises `SchemaError` where there is too much text."""
        self._chars += len(text)
        if self._chars > MAX_VALUE_CHARS:
            raise SchemaError(path, f"the names and values of the schema have more than {MAX_VALUE_CHARS} characters")
