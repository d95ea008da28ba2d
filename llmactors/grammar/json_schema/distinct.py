"""Whether no value follows two schemas at once. Pure.

A value has to follow exactly one branch of `oneOf`. Where no value can follow two, `oneOf` is `anyOf`. Branches are
told apart by their types, by their fixed values, and by a property that both require with different fixed values, as
discriminated unions have it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from llmactors.grammar.json_schema.keywords import TYPES

Resolve = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Follows the `$ref` of a schema, if it has one."""


@attrs.frozen
class Traits:
    """What is known of all values of a schema."""

    types: frozenset[str]
    values: frozenset[str] | None
    """The texts of the fixed values; None where other values are valid too."""
    properties: Mapping[str, frozenset[str]]
    """The required properties that have fixed values, with the texts of these."""


def traits_of(schema: Any, resolve: Resolve) -> Traits:
    """The traits of a schema."""
    if not isinstance(schema, Mapping):
        return Traits(frozenset() if schema is False else frozenset(TYPES), None, {})
    schema = resolve(schema)
    return Traits(frozenset(_types(schema)), _values(schema), _fixed_properties(schema, resolve))


def are_distinct(one: Traits, other: Traits) -> bool:
    """Whether two schemas with these traits surely have no value in common."""
    shared = one.types & other.types
    if not shared:
        return True
    if one.values is not None and other.values is not None:
        return not one.values & other.values
    if shared != {"object"}:
        return False
    names = one.properties.keys() & other.properties.keys()
    return any(not one.properties[name] & other.properties[name] for name in names)


def _types(schema: Mapping[str, Any]) -> set[str]:
    """The types that values of a schema may have; an integer counts as a number."""
    found = schema.get("type")
    names = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    if not names and "properties" in schema:
        names = ["object"]
    types = {str(name) for name in names} or set(TYPES)
    types = {"number" if name == "integer" else name for name in types}
    return types | {"null"} if schema.get("nullable") is True else types


def _values(schema: Mapping[str, Any]) -> frozenset[str] | None:
    """The texts of the fixed values of a schema; None where it has none."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(values, list) or schema.get("nullable") is True:
        return None
    try:
        return frozenset(json.dumps(value, sort_keys=True) for value in values)
    except (TypeError, ValueError, RecursionError):
        return None


def _fixed_properties(schema: Mapping[str, Any], resolve: Resolve) -> dict[str, frozenset[str]]:
    """The required properties that have fixed values, with the texts of these."""
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, Mapping) or not isinstance(required, list):
        return {}
    found = {}
    for name in required:
        if isinstance(name, str) and isinstance(inner := properties.get(name), Mapping):
            values = _values(resolve(inner))
            if values is not None:
                found[name] = values
    return found
