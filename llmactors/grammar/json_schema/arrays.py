"""Arrays of a schema, as grammar. Pure."""

from collections.abc import Mapping
from typing import Any

from llmactors.grammar.errors import SchemaError
from llmactors.grammar.expressions import EMPTY, Expression, Repetition, optional, sequence
from llmactors.grammar.json_schema import json_text
from llmactors.grammar.json_schema.builder import GrammarBuilder
from llmactors.grammar.json_schema.keywords import count_of
from llmactors.grammar.json_schema.limits import MAX_SCHEMAS
from llmactors.grammar.json_schema.objects import Convert

_INLINE = 8
"""How many items of a prefix stand in one rule."""


def array_expression(builder: GrammarBuilder, convert: Convert, schema: Mapping[str, Any], path: str) -> Expression:
    """The arrays that a schema allows.

    Raises:
        SchemaError: No array has such a length, or a keyword cannot be served.
    """
    if schema.get("uniqueItems") is True:
        raise SchemaError(f"{path}.uniqueItems", "`uniqueItems` cannot be served; leave it out and check the answer")
    least = count_of(schema, "minItems", path) or 0
    most = count_of(schema, "maxItems", path)
    if most is not None and most < least:
        raise SchemaError(f"{path}.maxItems", f"is {most}, below `minItems`, which is {least}")
    prefix, rest, rest_path = _parts(schema, path)
    if len(prefix) > MAX_SCHEMAS:
        raise SchemaError(f"{path}.prefixItems", f"has {len(prefix)} items; at most {MAX_SCHEMAS} are allowed")
    if rest is False:
        most = len(prefix) if most is None else min(most, len(prefix))
        if least > most:
            raise SchemaError(f"{path}.minItems", f"is {least}, but at most {most} items are allowed")
    used = prefix[: len(prefix) if most is None else most]
    fixed = [convert(item, f"{path}.prefixItems[{place}]", "item") for place, item in enumerate(used)]
    tail: Expression = EMPTY
    if most is None or most > len(fixed):
        item = convert(rest, rest_path, "item")
        more = None if most is None else most - len(fixed)
        tail = _rest(builder, item, max(0, least - len(fixed)), more, path, first=not fixed)
    return _bracketed(builder, _prefixed(builder, fixed, tail, least, path))


def _prefixed(builder: GrammarBuilder, fixed: list[Expression], tail: Expression, least: int, path: str) -> Expression:
    """The first items, each of which may come only after the one before, and the `tail` after all of them."""
    for place, item in reversed(list(enumerate(fixed))):
        found = sequence(sequence(json_text.comma(builder), item) if place else item, tail)
        tail = found if place < least else optional(found)
        if place % _INLINE == _INLINE - 1:
            tail = builder.named("items", tail, path)
    return tail


def _bracketed(builder: GrammarBuilder, items: Expression) -> Expression:
    if items == EMPTY:
        return json_text.listed(builder, "[", None, "]")
    if isinstance(items, Repetition):  # there may be no items
        space = json_text.white_space(builder)
        return sequence("[", space, optional(sequence(items.item, space)), "]")
    return json_text.listed(builder, "[", items, "]")


def _parts(schema: Mapping[str, Any], path: str) -> tuple[list[Any], Any, str]:
    """The schemas of the first items, that of all others, and where the latter stands."""
    prefix, items = schema.get("prefixItems", []), schema.get("items", True)
    where = "items"
    if isinstance(items, list):  # a tuple, as it was written before `prefixItems` existed
        prefix, items, where = items, schema.get("additionalItems", True), "additionalItems"
    if not isinstance(prefix, list):
        raise SchemaError(f"{path}.prefixItems", "has to be a list of schemas")
    return prefix, items, f"{path}.{where}"


def _rest(
    builder: GrammarBuilder, item: Expression, least: int, most: int | None, path: str, *, first: bool
) -> Expression:
    """The items after the prefix. The `first` item of an array has no comma before it."""
    item = builder.named("item", item, path)
    more = builder.named("more-items", sequence(json_text.comma(builder), item), path)
    if not first:
        return builder.repeat(more, least, most, path)
    others = builder.repeat(more, max(0, least - 1), None if most is None else most - 1, path)
    found = sequence(item, others if most != 1 else EMPTY)
    return found if least else optional(found)
