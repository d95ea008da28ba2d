"""Objects of a schema, as grammar: declared and additional properties. Pure.

The properties come in the order of the schema. Optional ones may be left out. Additional ones come last.
"""

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from llmactors.grammar.errors import SchemaError
from llmactors.grammar.expressions import Expression, Repetition, choice, literal, optional, sequence
from llmactors.grammar.json_schema import json_text
from llmactors.grammar.json_schema.builder import GrammarBuilder
from llmactors.grammar.json_schema.constants import values_expression
from llmactors.grammar.json_schema.keys import other_key
from llmactors.grammar.json_schema.keywords import assertions, count_of, shown
from llmactors.grammar.json_schema.limits import MAX_SCHEMAS

_INLINE = 8
"""How many required properties stand in one rule."""
Convert = Callable[[Any, str, str], Expression]
"""Converts a subschema: the schema, its path, and a hint for the name of its rule."""


@attrs.frozen
class _Pair:
    """A key with its value."""

    text: Expression
    required: bool


def object_expression(
    builder: GrammarBuilder, convert: Convert, schema: Mapping[str, Any], path: str, *, strict: bool
) -> Expression:
    """The objects that a schema allows.

    Raises:
        SchemaError: No object is valid, or a keyword cannot be served.
    """
    properties = _properties(schema, path)
    required = _required(schema, path)
    additional = schema.get("additionalProperties", not strict)
    missing = [name for name in required if name not in properties]
    if missing and additional is False:
        raise SchemaError(
            f"{path}.required", f"{shown(missing[0])!r} is required, but `additionalProperties` forbids it"
        )
    pairs = [
        _Pair(_pair(builder, name, convert(inner, f"{path}.properties.{shown(name)}", name), path), name in required)
        for name, inner in properties.items()
    ]
    named = [*properties, *missing]
    value = None
    if additional is not False:
        value = convert(additional, f"{path}.additionalProperties", "additional")
        pairs += [_Pair(_pair(builder, name, value, path), required=True) for name in missing]
    least, most = _counts(schema, path, pairs, only_map=not pairs and value is not None)
    if value is None:
        if not pairs:
            return json_text.listed(builder, "{", None, "}")
        return _joined(builder, pairs, None, path)
    key = _key(builder, schema, named, path)
    extra = sequence(key, json_text.colon(), value)
    if not pairs:
        return _map(builder, extra, least, most, path)
    return _joined(builder, pairs, builder.named("other", extra, path), path)


def _properties(schema: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    found = schema.get("properties", {})
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise SchemaError(f"{path}.properties", "has to be an object")
    if len(found) > MAX_SCHEMAS:
        raise SchemaError(f"{path}.properties", f"has {len(found)} properties; at most {MAX_SCHEMAS} are allowed")
    return found


def _required(schema: Mapping[str, Any], path: str) -> dict[str, None]:
    found = schema.get("required", [])
    if not isinstance(found, list | tuple) or not all(isinstance(name, str) for name in found):
        raise SchemaError(f"{path}.required", "has to be a list of names")
    if len(found) > MAX_SCHEMAS:
        raise SchemaError(f"{path}.required", f"has {len(found)} names; at most {MAX_SCHEMAS} are allowed")
    return dict.fromkeys(found)


def _pair(builder: GrammarBuilder, name: str, value: Expression, path: str) -> Expression:
    builder.count_text(name, path)
    if any("\ud800" <= char <= "\udfff" for char in name):
        raise SchemaError(f"{path}.properties", "a name holds half of a surrogate pair, which is no character")
    return sequence(literal(f'"{json_text.encoded(name)}"'), json_text.colon(), value)


def _counts(schema: Mapping[str, Any], path: str, pairs: list[_Pair], *, only_map: bool) -> tuple[int, int | None]:
    least = count_of(schema, "minProperties", path) or 0
    most = count_of(schema, "maxProperties", path)
    if most is not None and most < least:
        raise SchemaError(f"{path}.maxProperties", f"is {most}, below `minProperties`, which is {least}")
    sure = sum(pair.required for pair in pairs)
    if only_map:
        if least > 1:
            raise SchemaError(f"{path}.minProperties", "more than 1 cannot be served, as a key may come twice")
        return least, most
    if least > sure:
        raise SchemaError(f"{path}.minProperties", "cannot be served beside optional properties; require properties")
    if most is not None and (most < len(pairs) or schema.get("additionalProperties", True) is not False):
        raise SchemaError(f"{path}.maxProperties", "cannot be served beside `properties`; leave it out")
    return 0, None


def _key(builder: GrammarBuilder, schema: Mapping[str, Any], named: list[str], path: str) -> Expression:
    """The key of an additional property."""
    rule = schema.get("propertyNames", True)
    place = f"{path}.propertyNames"
    if isinstance(rule, Mapping) and (found := assertions(rule)):
        if set(found) <= {"enum", "const", "type"} and ("enum" in rule or "const" in rule):
            names = rule["enum"] if "enum" in rule else [rule["const"]]
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise SchemaError(place, "the names have to be a list of texts")
            free = [name for name in names if name not in named]
            builder.count_values(len(free), place)
            if not free:
                raise SchemaError(place, "allows no name; set `additionalProperties` to false")
            return values_expression(builder, free, place)
        if found != ["type"] or rule["type"] != "string":
            raise SchemaError(place, "`propertyNames` is served with `enum` and `const` only")
    elif rule is False or not isinstance(rule, bool | Mapping):
        raise SchemaError(place, "`propertyNames` has to be a schema that allows names")
    return other_key(builder, named, path) if named else json_text.string(builder)


def _map(builder: GrammarBuilder, extra: Expression, least: int, most: int | None, path: str) -> Expression:
    """An object with additional properties only."""
    space = json_text.white_space(builder)
    if most == 0:
        return json_text.listed(builder, "{", None, "}")
    extra = builder.named("entry", extra, path)
    more = builder.named("entries", sequence(json_text.comma(builder), extra), path)
    entries = sequence(extra, builder.repeat(more, 0, None if most is None else most - 1, path), space)
    return sequence("{", space, entries if least else optional(entries), "}")


def _joined(builder: GrammarBuilder, pairs: list[_Pair], extra: Expression | None, path: str) -> Expression:
    """An object with declared properties. A comma stands between any two of those that are there.

    After the first property that is there, each of the others brings its comma with it. So the grammar has one way for
    each property that may be the first.
    """
    comma = json_text.comma(builder)
    tail: Expression = sequence() if extra is None else Repetition(sequence(comma, extra), 0, None)
    firsts: list[Expression] = [] if extra is None else [sequence(extra, tail)]
    may_be_empty = True
    for place, pair in enumerate(reversed(pairs)):
        if (may_be_empty and firsts) or place % _INLINE == _INLINE - 1:
            tail = builder.named("rest", tail, path)
        if pair.required:
            firsts, may_be_empty = [sequence(pair.text, tail)], False
            tail = sequence(comma, pair.text, tail)
        else:
            firsts = [sequence(pair.text, tail), *firsts]
            tail = sequence(optional(sequence(comma, pair.text)), tail)
            if len(firsts) > 1:
                tail = builder.named("rest", tail, path)
    space = json_text.white_space(builder)
    inside = sequence(choice(firsts), space)
    return sequence("{", space, optional(inside) if may_be_empty else inside, "}")
