"""Strings of a schema, as grammar: length, pattern, format. Pure."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from llmactors.grammar.ambiguity import check_ambiguity, may_be_ambiguous
from llmactors.grammar.errors import SchemaError, TooManyStacks
from llmactors.grammar.expressions import ROOT, Expression, Grammar, sequence
from llmactors.grammar.json_schema import json_text
from llmactors.grammar.json_schema.builder import GrammarBuilder
from llmactors.grammar.json_schema.formats import ANY_STRING, PATTERNS
from llmactors.grammar.json_schema.keywords import count_of
from llmactors.grammar.json_schema.limits import MAX_PATTERN
from llmactors.grammar.json_schema.patterns import PatternError, in_json, length_limits, parse_pattern


def string_expression(builder: GrammarBuilder, schema: Mapping[str, Any], path: str) -> Expression:
    """The strings that a schema allows, with their quotes.

    Raises:
        SchemaError: No string has such a length, or the pattern or the format cannot be served.
    """
    least = count_of(schema, "minLength", path) or 0
    most = count_of(schema, "maxLength", path)
    if most is not None and most < least:
        raise SchemaError(f"{path}.maxLength", f"is {most}, below `minLength`, which is {least}")
    pattern, name = schema.get("pattern"), schema.get("format")
    if name in ANY_STRING:
        name = None
    if pattern is not None and name is not None:
        raise SchemaError(f"{path}.pattern", "`pattern` beside `format` cannot be served; keep one of them")
    if pattern is None and name is None:
        if not least and most is None:
            return json_text.string(builder)
        return sequence('"', builder.repeat(json_text.char(builder), least, most, path), '"')
    matching = _format(name, path) if pattern is None else _pattern(builder, pattern, path)
    keyword = "format" if pattern is None else "pattern"
    _check_length(matching, least, most, path, keyword)
    return sequence('"', in_json(matching, lambda part: builder.named("chars", part, path)), '"')


def _pattern(builder: GrammarBuilder, pattern: object, path: str) -> Expression:
    if not isinstance(pattern, str):
        raise SchemaError(f"{path}.pattern", "has to be a text")
    if len(pattern) > MAX_PATTERN:
        raise SchemaError(f"{path}.pattern", f"has {len(pattern)} characters; at most {MAX_PATTERN} are allowed")
    builder.count_text(pattern, f"{path}.pattern")
    try:
        matching = parse_pattern(pattern)
        if may_be_ambiguous(matching):
            builder.count_costly_pattern(f"{path}.pattern")
            check_ambiguity(Grammar({ROOT: matching}))
    except PatternError as error:
        raise SchemaError(f"{path}.pattern", str(error)) from error
    except TooManyStacks as error:
        raise SchemaError(f"{path}.pattern", error.message) from error
    return matching


def _format(name: object, path: str) -> Expression:
    if not isinstance(name, str) or name not in PATTERNS:
        raise SchemaError(f"{path}.format", f"the format {name!r} cannot be served; served are {', '.join(PATTERNS)}")
    return _parsed_format(name)


@cache
def _parsed_format(name: str) -> Expression:
    return parse_pattern(PATTERNS[name])


def _check_length(matching: Expression, least: int, most: int | None, path: str, keyword: str) -> None:
    shortest, longest = length_limits(matching)
    if shortest < least:
        raise SchemaError(
            f"{path}.minLength", f"`minLength` beside `{keyword}` cannot be served; put it into a pattern"
        )
    if most is not None and (longest is None or longest > most):
        raise SchemaError(
            f"{path}.maxLength", f"`maxLength` beside `{keyword}` cannot be served; put it into a pattern"
        )
