"""From a JSON schema to a grammar. Pure.

Every text of the grammar is a valid value of the schema. What the grammar cannot express is refused by name, and never
left out in silence. Three things are narrower than JSON Schema: properties come in the order of the schema, numbers and
white space have bounds, and a schema without `type` is of the type that its keywords concern.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from llmactors.grammar.ambiguity import check_ambiguity, may_be_ambiguous
from llmactors.grammar.checks import check_rules
from llmactors.grammar.errors import GrammarError, SchemaError
from llmactors.grammar.expressions import ROOT, Expression, Grammar, Literal, Reference, choice
from llmactors.grammar.gbnf import write
from llmactors.grammar.json_schema import json_text
from llmactors.grammar.json_schema.arrays import array_expression
from llmactors.grammar.json_schema.builder import GrammarBuilder
from llmactors.grammar.json_schema.constants import texts_expression, values_expression
from llmactors.grammar.json_schema.distinct import are_distinct, traits_of
from llmactors.grammar.json_schema.keywords import (
    BY_TYPE,
    COMBINING,
    TYPES,
    assertions,
    check_keywords,
    shown,
)
from llmactors.grammar.json_schema.limits import MAX_BRANCHES, MAX_DEPTH, MAX_PATTERN, MAX_VALUE_CHARS, MAX_VALUES
from llmactors.grammar.json_schema.numbers import number_expression
from llmactors.grammar.json_schema.objects import object_expression
from llmactors.grammar.json_schema.patterns import PatternError, parse_pattern
from llmactors.grammar.json_schema.strings import string_expression
from llmactors.grammar.limits import MAX_TEXT

_MAX_HOPS = 20
"""How many `$ref`s may lead from one to the next."""


def schema_grammar(schema: object, *, strict: bool = False) -> str:
    """The GBNF of all values that follow a JSON schema.

    Args:
        schema: The schema, as it was parsed.
        strict: Whether an object without `additionalProperties` may have declared properties only, as in OpenAI's
            strict mode. Otherwise such an object may have any other properties, as JSON Schema says.

    Raises:
        SchemaError: A keyword cannot be served, nothing follows the schema, or the schema is too large. The text names
            the keyword and its path.
    """
    return _written(schema_rules(schema, strict=strict))


def schema_rules(schema: object, *, strict: bool = False) -> Grammar:
    """The grammar of `schema_grammar`, as rules that can become a part of a larger grammar. Raises `SchemaError`."""
    builder = GrammarBuilder()
    _Converter(builder, schema, strict=strict).run()
    return _checked(builder)


def json_object() -> str:
    """The GBNF of all JSON objects, with a bound on their depth."""
    builder = GrammarBuilder()
    builder.rules[ROOT] = json_text.any_object(builder)
    return _written(_checked(builder))


def choice_grammar(texts: Iterable[str]) -> str:
    """The GBNF of one of the texts.

    Raises:
        GrammarError: There is no text, a text is empty, or there is too much text.
    """
    found = tuple(texts)
    if not found or not all(found):
        raise GrammarError("a choice needs at least one text, and none of them may be empty")
    if len(found) > MAX_VALUES or sum(map(len, found)) > MAX_VALUE_CHARS:
        raise GrammarError(f"a choice may have at most {MAX_VALUES} texts and {MAX_VALUE_CHARS} characters")
    builder = GrammarBuilder()
    builder.rules[ROOT] = texts_expression(builder, found, "$")
    return _written(_checked(builder))


def regex_grammar(pattern: str) -> str:
    """The GBNF of the texts that match a regular expression from their first to their last character.

    Raises:
        GrammarError: The expression is not regular, is wrong, or is too large or too ambiguous.
    """
    if len(pattern) > MAX_PATTERN:
        raise GrammarError(f"the regular expression has {len(pattern)} characters; at most {MAX_PATTERN} are allowed")
    if "|" not in pattern:
        pattern = pattern.removeprefix("^")
        pattern = pattern[:-1] if pattern.endswith("$") and not pattern.endswith("\\$") else pattern
    try:
        grammar = Grammar({ROOT: parse_pattern(f"^(?:{pattern})$")})
    except PatternError as error:
        raise GrammarError(str(error)) from None
    check_rules(grammar)
    if may_be_ambiguous(grammar.rules[ROOT]):
        check_ambiguity(grammar)
    return _written(grammar)


def _checked(builder: GrammarBuilder) -> Grammar:
    grammar = Grammar(builder.rules)

    def describe(rule: str) -> str:
        return builder.paths.get(rule, "$")

    check_rules(grammar, describe)
    return grammar


def _written(grammar: Grammar) -> str:
    text = write(grammar)
    if len(text) > MAX_TEXT:
        raise SchemaError("$", f"the schema needs a grammar of {len(text)} characters; at most {MAX_TEXT} are allowed")
    return text


class _Converter:
    def __init__(self, builder: GrammarBuilder, document: object, *, strict: bool) -> None:
        self._builder = builder
        self._document = document
        self._strict = strict
        self._depth = 0
        self._targets: dict[str, str] = {"#": ROOT}
        """The rules of the subschemas that a `$ref` leads to, by the text of the `$ref`."""
        self._todo: deque[tuple[str, str, Any]] = deque()

    def run(self) -> None:
        self._builder.rules[ROOT] = self._convert(self._document, "$")
        while self._todo:
            pointer, name, target = self._todo.popleft()
            self._builder.rules[name] = self._convert(target, "$" + pointer[1:].replace("/", "."))

    def _named(self, schema: Any, path: str, hint: str) -> Expression:
        """The subschema as a rule of its own, unless it is short."""
        return self._builder.named(hint, self._convert(schema, path), path)

    def _convert(self, schema: Any, path: str) -> Expression:
        self._builder.count_schema(path)
        if schema is True:
            return json_text.any_value(self._builder)
        if schema is False:
            raise SchemaError(path, "`false` allows no value")
        if not isinstance(schema, Mapping):
            raise SchemaError(path, "a schema has to be an object or a boolean")
        check_keywords(schema, path)
        if self._depth >= MAX_DEPTH:
            raise SchemaError(path[:80] + "…", f"the schema is nested more than {MAX_DEPTH} deep")
        self._depth += 1
        found = self._assertions(schema, path)
        self._depth -= 1
        if schema.get("nullable") is True:
            return choice((found, Literal("null")))
        return found

    def _assertions(self, schema: Mapping[str, Any], path: str) -> Expression:
        combining = [keyword for keyword in COMBINING if keyword in schema]
        if combining:
            return self._combined(combining[0], self._alone(schema, combining[0], path), path)
        if "const" in schema or "enum" in schema:
            return self._fixed(schema, path)
        return choice(self._of_type(name, schema, path) for name in _types(schema, path))

    def _alone(self, schema: Mapping[str, Any], keyword: str, path: str) -> Any:
        """The value of a keyword that stands with annotations only, or with a `type` that says nothing new."""
        others = [one for one in assertions(schema) if one not in {keyword, "nullable"}]
        if others == ["type"] and keyword != "$ref":
            branches = schema[keyword] if isinstance(schema[keyword], list) else []
            if all(isinstance(branch, Mapping) and branch.get("type") == schema["type"] for branch in branches):
                others = []
        if others:
            raise SchemaError(
                f"{path}.{others[0]}", f"`{others[0]}` beside `{keyword}` cannot be served; merge the two"
            )
        return schema[keyword]

    def _combined(self, keyword: str, value: Any, path: str) -> Expression:
        place = f"{path}.{keyword}"
        if keyword == "$ref":
            return self._reference(value, place)
        if not isinstance(value, list) or not value:
            raise SchemaError(place, "has to be a list of schemas that is not empty")
        if keyword == "allOf" and len(value) > 1:
            raise SchemaError(place, "`allOf` of more than one schema cannot be served; merge the schemas")
        if keyword == "oneOf":
            self._check_distinct(value, place)
        return choice(self._named(branch, f"{place}[{at}]", keyword) for at, branch in enumerate(value))

    def _check_distinct(self, branches: list[Any], place: str) -> None:
        if len(branches) > MAX_BRANCHES:
            raise SchemaError(place, f"has {len(branches)} branches; at most {MAX_BRANCHES} are allowed")
        traits = [traits_of(branch, self._resolve) for branch in branches]
        for at in range(len(traits)):
            for before in range(at):
                if not are_distinct(traits[before], traits[at]):
                    raise SchemaError(place, f"a value could follow both branch {before} and branch {at}; use `anyOf`")

    def _fixed(self, schema: Mapping[str, Any], path: str) -> Expression:
        keyword = "const" if "const" in schema else "enum"
        if not isinstance(schema.get("enum", []), list | tuple):
            raise SchemaError(f"{path}.enum", "has to be a list of values")
        values = [schema["const"]] if keyword == "const" else schema["enum"]
        self._builder.count_values(len(values), f"{path}.{keyword}")
        if "enum" in schema and keyword == "const" and schema["const"] not in schema["enum"]:
            raise SchemaError(f"{path}.const", "is not among the values of `enum`")
        others = [one for one in assertions(schema) if one not in {"const", "enum", "type", "nullable"}]
        if others:
            raise SchemaError(f"{path}.{others[0]}", f"`{others[0]}` beside `{keyword}` cannot be served; leave it out")
        if "type" in schema:
            types = _types(schema, path)
            values = [value for value in values if any(_has_type(value, name) for name in types)]
        if not values:
            raise SchemaError(f"{path}.{keyword}", "has no value that the schema allows")
        return values_expression(self._builder, values, f"{path}.{keyword}")

    def _of_type(self, name: str, schema: Mapping[str, Any], path: str) -> Expression:
        if name == "object":
            return object_expression(self._builder, self._named, schema, path, strict=self._strict)
        if name == "array":
            return array_expression(self._builder, self._named, schema, path)
        if name == "string":
            return string_expression(self._builder, schema, path)
        if name in {"integer", "number"}:
            return number_expression(self._builder, schema, path, whole=name == "integer")
        return json_text.boolean() if name == "boolean" else Literal("null")

    def _reference(self, pointer: Any, place: str) -> Expression:
        target = self._look_up(pointer, place)
        if pointer not in self._targets:
            name = self._builder.reserve(str(pointer).rpartition("/")[2], place)
            self._targets[pointer] = name
            self._todo.append((pointer, name, target))
        return Reference(self._targets[pointer])

    def _look_up(self, pointer: Any, place: str) -> Any:
        if not isinstance(pointer, str) or not (pointer == "#" or pointer.startswith("#/")):
            raise SchemaError(place, "only a `$ref` within the schema can be served, such as `#/$defs/NAME`")
        found: Any = self._document
        for part in pointer[2:].split("/") if pointer != "#" else []:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isascii() and key.isdigit() and int(key[:9]) < len(found):
                found = found[int(key[:9])]
            else:
                raise SchemaError(place, f"`{shown(pointer)}` leads to nothing")
        return found

    def _resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        for _ in range(_MAX_HOPS):
            if "$ref" not in schema:
                break
            found = self._look_up(schema["$ref"], "$ref")
            if not isinstance(found, Mapping):
                break
            schema = found
        return schema


def _types(schema: Mapping[str, Any], path: str) -> list[str]:
    """The types that a schema names, or those that its keywords concern, or all."""
    found = schema.get("type")
    if found is None:
        concerned = [name for name, keywords in BY_TYPE.items() if keywords & schema.keys()]
        if concerned == ["string", "number"]:
            concerned = ["string"]  # `format` alone
        return concerned or ["object", "array", "string", "number", "boolean", "null"]
    names = [found] if isinstance(found, str) else found
    if not isinstance(names, list) or not names:
        raise SchemaError(f"{path}.type", "has to be a type or a list of types")
    for name in names:
        if name not in TYPES:
            raise SchemaError(f"{path}.type", f"{shown(str(name))!r} is no type; the types are {', '.join(TYPES)}")
    return [name for name in dict.fromkeys(names) if name != "integer" or "number" not in names]


def _has_type(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    kinds: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "object": Mapping,
        "array": (list, tuple),
        "null": type(None),
    }
    return name in kinds and isinstance(value, kinds[name])
