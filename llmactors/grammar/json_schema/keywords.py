"""The keywords of JSON Schema, by what the converter does with them. Pure."""

from collections.abc import Mapping
from typing import Any

from llmactors.grammar.errors import SchemaError
from llmactors.grammar.json_schema.limits import MAX_COUNT

ANNOTATIONS = frozenset(
    {
        *("title", "description", "default", "example", "examples", "deprecated", "readOnly", "writeOnly"),
        *("$schema", "$id", "$comment", "$defs", "definitions", "$anchor"),
        *("contentEncoding", "contentMediaType", "discriminator", "externalDocs", "xml"),
    }
)
"""Keywords that change nothing about which values are valid. Those that begin with `x-` are annotations too."""
BY_TYPE = {
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "format"}),
    "object": frozenset(
        {"properties", "required", "additionalProperties", "propertyNames", "minProperties", "maxProperties"}
    ),
    "array": frozenset({"items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems"}),
}
"""The keywords that concern values of one type. They say nothing about values of another type."""
COMBINING = ("$ref", "allOf", "anyOf", "oneOf")
GENERAL = frozenset({"type", "enum", "const", "nullable", *COMBINING})
SERVED = ANNOTATIONS.union(GENERAL, *BY_TYPE.values())
TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")


def assertions(schema: Mapping[str, Any]) -> list[str]:
    """The keywords of a schema that say which values are valid."""
    return [keyword for keyword in schema if keyword not in ANNOTATIONS and not keyword.startswith("x-")]


def check_keywords(schema: Mapping[str, Any], path: str) -> None:
    """Raises `SchemaError` for the first keyword that cannot be served."""
    for keyword in schema:
        if not isinstance(keyword, str):
            raise SchemaError(path, "the names of keywords have to be texts")
        if keyword not in SERVED and not keyword.startswith("x-"):
            raise SchemaError(f"{path}.{shown(keyword)}", f"the keyword `{shown(keyword)}` cannot be served")
    if not isinstance(schema.get("format", ""), str | None):
        raise SchemaError(f"{path}.format", "has to be a text")


def shown(name: str) -> str:
    """The name as an error shows it."""
    return name if len(name) <= 40 else name[:40] + "…"


def count_of(schema: Mapping[str, Any], keyword: str, path: str) -> int | None:
    """The count that a keyword gives, such as `minItems`; None where the schema has no such keyword."""
    value = schema.get(keyword)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SchemaError(f"{path}.{keyword}", "has to be an integer of at least 0")
    if value > MAX_COUNT:
        raise SchemaError(f"{path}.{keyword}", f"is {value}; at most {MAX_COUNT} can be served")
    return value
