"""Fixed values, as grammar: `enum`, `const`, and choices of texts. Pure.

Texts with the same beginning share it in the grammar. So a model that chooses among a thousand texts is followed in a
few ways at once, and not in a thousand.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from llmactors.grammar.errors import SchemaError
from llmactors.grammar.expressions import EMPTY, Expression, choice, literal, sequence
from llmactors.grammar.json_schema import json_text
from llmactors.grammar.json_schema.builder import GrammarBuilder

_DEPTH = 12
"""How deep a fixed value may be nested."""
_INLINE = 6
"""How many choices inside each other stand in one rule."""


def values_expression(builder: GrammarBuilder, values: Iterable[Any], path: str) -> Expression:
    """One of the values. Raises `SchemaError` for a value that is no JSON, or too deep."""
    texts: list[str] = []
    nested: list[Expression] = []
    for value in values:
        if isinstance(value, Mapping | list | tuple):
            nested.append(_nested(builder, value, path, _DEPTH))
        else:
            texts.append(_scalar(builder, value, path))
    return choice([*([texts_expression(builder, texts, path)] if texts else []), *nested])


def texts_expression(builder: GrammarBuilder, texts: Iterable[str], path: str) -> Expression:
    """One of the texts."""
    root = _Node()
    for text in texts:
        node = root
        for char in text:
            node = node.children.setdefault(char, _Node())
        node.ends = True
    return _of_tree(builder, root, path)


def _scalar(builder: GrammarBuilder, value: object, path: str) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise SchemaError(path, "holds a number that JSON cannot write")
    if value is not None and not isinstance(value, str | bool | int | float):
        raise SchemaError(path, "holds a value that is no JSON")
    text = json.dumps(value, ensure_ascii=False)
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise SchemaError(path, "holds half of a surrogate pair, which is no character")
    builder.count_text(text, path)
    return text


def _nested(builder: GrammarBuilder, value: object, path: str, depth: int) -> Expression:
    if not depth:
        raise SchemaError(path, f"holds a value that is nested more than {_DEPTH} deep")
    parts: list[Expression] = []
    if isinstance(value, Mapping):
        for key, inner in value.items():
            made = _nested(builder, inner, path, depth - 1)
            parts.append(sequence(_scalar(builder, key, path), json_text.colon(), made))
        return json_text.listed(builder, "{", _joined(builder, parts), "}")
    if isinstance(value, list | tuple):
        parts += [_nested(builder, inner, path, depth - 1) for inner in value]
        return json_text.listed(builder, "[", _joined(builder, parts), "]")
    return literal(_scalar(builder, value, path))


def _joined(builder: GrammarBuilder, parts: list[Expression]) -> Expression | None:
    if not parts:
        return None
    return sequence(parts[0], *(part for item in parts[1:] for part in (json_text.comma(builder), item)))


@attrs.define(eq=False)
class _Node:
    """A place in a tree of texts."""

    children: "dict[str, _Node]" = attrs.Factory(dict)
    ends: bool = False
    """Whether a text ends here."""


def _of_tree(builder: GrammarBuilder, root: _Node, path: str) -> Expression:
    """The texts of a tree. Without recursion, as texts may be long."""
    order = [root]
    edges: dict[int, list[tuple[str, _Node]]] = {}
    for node in order:
        edges[id(node)] = [_edge(char, child) for char, child in node.children.items()]
        order += [child for _, child in edges[id(node)]]
    made: dict[int, tuple[Expression, int]] = {}
    for node in reversed(order):
        options: list[Expression] = [EMPTY] * node.ends
        nesting = 0
        for label, child in edges[id(node)]:
            expression, inside = made.pop(id(child))
            options.append(sequence(label, expression))
            nesting = max(nesting, inside)
        found = choice(options)
        if len(options) > 1:
            nesting += 1
        if nesting > _INLINE:
            found, nesting = builder.named("text", found, path), 0
        made[id(node)] = (found, nesting)
    return made[id(root)][0]


def _edge(char: str, child: _Node) -> tuple[str, _Node]:
    """The text up to the next place where texts end or differ, and that place."""
    label = [char]
    while len(child.children) == 1 and not child.ends:
        ((char, child),) = child.children.items()
        label.append(char)
    return "".join(label), child
