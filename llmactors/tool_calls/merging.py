"""Puts several grammars into one. Pure.

The grammars of several schemas have many rules in common, such as the rules of strings and white space. A rule that
two grammars define equally is kept once; other rules of the same name get a new name.
"""

from collections.abc import Collection, Mapping

from llmactors.grammar.checks import references
from llmactors.grammar.expressions import ROOT, Choice, Expression, Reference, Repetition, Sequence


class MergedRules:
    """The rules of several grammars, without a root."""

    def __init__(self) -> None:
        self.rules: dict[str, Expression] = {}

    def __repr__(self) -> str:
        return f"<MergedRules {len(self.rules)} rules>"

    def name(self, hint: str, expression: Expression) -> Expression:
        """Adds a rule whose name is similar to `hint`. Returns what stands for the rule."""
        name = self._fresh(hint, ())
        self.rules[name] = expression
        return Reference(name)

    def add(self, rules: Mapping[str, Expression], hint: str) -> Expression:
        """Adds the rules of a grammar. Returns what stands for its root. New names begin with `hint`."""
        taken = {name for name in rules if name == ROOT or self.rules.get(name, rules[name]) != rules[name]}
        grows = True
        while grows:
            # A rule that uses a renamed rule is another rule than the one of the same name.
            using = {name for name in rules if name not in taken and not taken.isdisjoint(references(rules[name]))}
            taken |= using
            grows = bool(using)
        names: dict[str, str] = {}
        for name in taken:
            fresh = self._fresh(hint if name == ROOT else f"{hint}-{name}", (*rules, *names.values()))
            names[name] = fresh
        for name, rule in rules.items():
            self.rules[names.get(name, name)] = _renamed(rule, names)
        return Reference(names[ROOT])

    def _fresh(self, hint: str, others: Collection[str]) -> str:
        name, number = hint, 1
        while name == ROOT or name in self.rules or name in others:
            number += 1
            name = f"{hint}-{number}"
        return name


def _renamed(expression: Expression, names: Mapping[str, str]) -> Expression:
    match expression:
        case Reference(name):
            return Reference(names.get(name, name))
        case Sequence(items):
            return Sequence(tuple(_renamed(item, names) for item in items))
        case Choice(options):
            return Choice(tuple(_renamed(option, names) for option in options))
        case Repetition(item, least, most):
            return Repetition(_renamed(item, names), least, most)
        case _:
            return expression
