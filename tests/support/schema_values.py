"""Small random values of a JSON schema, with their properties in the order of the schema."""

import math
import random
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

EXAMPLES = {
    "^[A-Z]{2}-[0-9]{3,5}$": ["AB-123", "ZZ-00000"],
    "abc|x+y": ["abc", "-abc-", "xxxy", "axy\u00e9"],
    "^(?:GET|POST|PUT) (/[a-z0-9_-]+)+/?$": ["GET /a", "PUT /a/b-c/"],
    r'^"\w+"\s\\\d{2}\t?[^a-z"]$': ['"a_1" \\12\t\u00e9', '"x"\n\\00A'],
    r"^\S+?@\S+$": ["a@b", "\u00e9@@"],
    "^[a-f]{4}$": ["abcd"],
    r"^\d{5}$": ["12345"],
    r"^\d{1,6}\.\d{2}$": ["1.00", "123456.78"],
    "^INV-[0-9]{6}$": ["INV-000001"],
    "date": ["2024-02-29", "1999-12-31"],
    "time": ["23:59:59Z", "00:00:00.123+01:00"],
    "date-time": ["2025-01-31T12:30:00Z", "2000-02-29T00:00:00.5-11:00"],
    "duration": ["P1D", "PT1H30M", "P2W", "P1Y2M3DT4H5M6S"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
    "email": ["a@example.org", "first.last+tag@mail.example.com"],
    "hostname": ["localhost", "a-b.example.org"],
    "ipv4": ["0.0.0.0", "255.192.1.10"],
    "ipv6": ["::", "::1", "fe80::1:2", "1:2:3:4:5:6:7:8", "1::", "1:2:3:4:5:6:7::"],
    "uri": ["https://example.org", "http://a.b:8080/c/d?e=f&g=%20#h"],
}
"""Texts that match a pattern, or have a format."""
_LETTERS = 'abAB01 _-"\\/\n\t\x01\x7f\u00e9\u4f60\U0001f600'
_TYPES = ["object", "array", "string", "integer", "number", "boolean", "null"]


def small_value(schema: Any, rng: random.Random, root: Any = None, depth: int = 4) -> Any:
    """A valid value of the schema, no deeper than the schema asks for once `depth` is used up."""
    root = schema if root is None else root
    if schema is True or not isinstance(schema, Mapping):
        return _of_type(rng.choice(_TYPES if depth > 0 else _TYPES[2:]), {}, rng, root, depth - 1)
    if "$ref" in schema:
        return small_value(_target(schema["$ref"], root), rng, root, depth)
    for keyword in ("anyOf", "oneOf", "allOf"):
        if keyword in schema:
            branches = schema[keyword]
            return small_value(rng.choice(branches) if depth > 0 else _simplest(branches), rng, root, depth - 1)
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        return rng.choice([value for value in values if not types or _json_type(value) in types])
    if schema.get("nullable") and rng.random() < 0.3:
        return None
    types = types or _concerned(schema)
    return _of_type(rng.choice(types), schema, rng, root, depth - 1)


def _target(pointer: str, root: Any) -> Any:
    for part in pointer.split("/")[1:]:
        root = root[unquote(part).replace("~1", "/").replace("~0", "~")]
    return root


def _simplest(branches: list[Any]) -> Any:
    """The branch that most probably ends a recursion."""
    return min(branches, key=lambda branch: str(branch).count("$ref"))


def _json_type(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def _concerned(schema: Mapping[str, Any]) -> list[str]:
    words = {"properties": "object", "required": "object", "maxLength": "string", "items": "array", "minimum": "number"}
    return [kind for word, kind in words.items() if word in schema][:1] or _TYPES


def _of_type(kind: str, schema: Mapping[str, Any], rng: random.Random, root: Any, depth: int) -> Any:
    if kind == "object":
        return _object(schema, rng, root, depth)
    if kind == "array":
        return _array(schema, rng, root, depth)
    if kind == "string":
        return _string(schema, rng)
    if kind in {"integer", "number"}:
        return _number(schema, rng, whole=kind == "integer")
    return rng.random() < 0.5 if kind == "boolean" else None


def _object(schema: Mapping[str, Any], rng: random.Random, root: Any, depth: int) -> dict[str, Any]:
    declared, required = schema.get("properties", {}), schema.get("required", [])
    found = {
        name: small_value(inner, rng, root, depth)
        for name, inner in declared.items()
        if name in required or (depth > 0 and rng.random() < 0.6)
    }
    extra = schema.get("additionalProperties", True)
    if extra is False:
        return found
    names = [name for name in required if name not in declared]
    if depth > 0:
        free = schema.get("propertyNames", {}).get("enum") or ["k", "n", "na", 'quo"te', "", "\u00e9", "tab\t", "\x02"]
        names += [name for name in rng.sample(free, rng.randint(0, 2)) if name not in declared]
    least, most = schema.get("minProperties", 0), schema.get("maxProperties", 9)
    names = [*names, "kk"][: max(least, len(names))][:most]
    return found | {name: small_value(extra, rng, root, depth) for name in names}


def _array(schema: Mapping[str, Any], rng: random.Random, root: Any, depth: int) -> list[Any]:
    prefix, rest = schema.get("prefixItems", []), schema.get("items", True)
    least, most = schema.get("minItems", 0), schema.get("maxItems", 6)
    most = min(most, len(prefix)) if rest is False else most
    count = min(most, rng.randint(least, max(least, 3)) if depth > 0 else least)
    schemas = [*prefix, *[rest] * count][:count]
    return [small_value(inner, rng, root, depth) for inner in schemas]


def _string(schema: Mapping[str, Any], rng: random.Random) -> str:
    known = EXAMPLES.get(schema.get("pattern", schema.get("format", "")))
    if known is not None:
        return rng.choice(known)
    least, most = schema.get("minLength", 0), schema.get("maxLength", 8)
    size = rng.randint(least, max(least, min(most, least + 5)))
    return "".join(rng.choice(_LETTERS) for _ in range(size))


def _number(schema: Mapping[str, Any], rng: random.Random, *, whole: bool) -> float:
    low, high = schema.get("minimum", -1e6), schema.get("maximum", 1e6)
    strict_low, strict_high = schema.get("exclusiveMinimum", -1e6), schema.get("exclusiveMaximum", 1e6)
    if strict_low is True:
        strict_low = low
    while True:
        value = rng.uniform(max(low, strict_low), min(high, strict_high))
        value = rng.choice([value, round(value, 2), round(value), low, high])
        found: float = math.floor(value) if whole else value
        text = str(found)
        if strict_low < found < strict_high and low <= found <= high and "e" not in text and len(text) < 17:
            return int(found) if whole else found
