"""The fields that say which form the text of an answer has to have. Pure.

`response_format` is OpenAI's. vLLM has `structured_outputs` and `guided_json` and its like, llama.cpp's server has
`grammar` and `json_schema`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from llmactors.gateway.answer_rules import TextFormat
from llmactors.gateway.body import clipped
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.unserved import FORMATS, asks_for_nothing

Reader = Callable[[str, Any], TextFormat | None]


def read_text_format(fields: Mapping[str, Any]) -> TextFormat | None:
    """The wanted form; None for free text. `fields` are those of `FORMAT_FIELDS`. Raises `InvalidParameter`."""
    found = [
        made
        for name, read in FORMAT_FIELDS.items()
        if not asks_for_nothing(value := fields.get(name), FORMATS[name]) and (made := read(name, value)) is not None
    ]
    if len(found) > 1:
        one, other = found[:2]
        raise InvalidParameter(other.field, f"`{other.field}` and `{one.field}` both ask for a form; send one of them")
    return found[0] if found else None


def _response_format(name: str, value: Any) -> TextFormat | None:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return TextFormat("object", where=name)
    if kind != "json_schema":
        wanted = "must be `text`, `json_object` or `json_schema`"
        raise InvalidParameter(name, f"`{name}.type` {wanted}, not {clipped(kind)}")
    inner = value.get("json_schema")
    if not isinstance(inner, dict):
        raise InvalidParameter(name, f"`{name}.json_schema` must be an object")
    return read_schema_format(f"{name}.json_schema", inner)


def read_schema_format(where: str, fields: Mapping[str, Any]) -> TextFormat:
    """The form with a `schema`, at `where` in the body. Raises `InvalidParameter`."""
    param = where.partition(".")[0]
    strict, schema = fields.get("strict"), fields.get("schema")
    if strict is not None and not isinstance(strict, bool):
        raise InvalidParameter(param, f"`{where}.strict` must be a boolean")
    if not isinstance(schema, dict):
        raise InvalidParameter(param, f"`{where}.schema` must be a JSON schema")
    return TextFormat("schema", schema, bool(strict), f"{where}.schema")


def _schema(name: str, value: Any) -> TextFormat:
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            raise InvalidParameter(name.partition(".")[0], f"`{name}` is not the text of a JSON schema") from None
    if not isinstance(value, dict | bool):
        raise InvalidParameter(name.partition(".")[0], f"`{name}` must be a JSON schema")
    return TextFormat("schema", value, where=name)


def _choice(name: str, value: Any) -> TextFormat:
    if not isinstance(value, list) or not value or not all(isinstance(text, str) and text for text in value):
        raise InvalidParameter(name.partition(".")[0], f"`{name}` must be a list of texts, none of them empty")
    return TextFormat("choice", value, where=name)


def _grammar(name: str, value: Any) -> TextFormat:
    return TextFormat("grammar", _text(name, value), where=name)


def _regex(name: str, value: Any) -> TextFormat:
    return TextFormat("regex", _text(name, value), where=name)


def _object(name: str, value: Any) -> TextFormat | None:
    if not isinstance(value, bool):
        raise InvalidParameter(name.partition(".")[0], f"`{name}` must be a boolean")
    return TextFormat("object", where=name) if value else None


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidParameter(name.partition(".")[0], f"`{name}` must be a text that is not empty")
    return value


def _structured_outputs(name: str, value: Any) -> TextFormat | None:
    if not isinstance(value, dict):
        raise InvalidParameter(name, f"`{name}` must be an object")
    asked = {key: each for key, each in value.items() if each is not None and each is not False}
    for key in asked:
        if key not in _STRUCTURED:
            raise InvalidParameter(name, f"`{name}.{clipped(key)[1:-1]}` is not served here; leave it out")
    if len(asked) > 1:
        raise InvalidParameter(name, f"`{name}` asks for {' and '.join(asked)}; send one of them")
    return next((_STRUCTURED[key](f"{name}.{key}", each) for key, each in asked.items()), None)


_STRUCTURED: Mapping[str, Reader] = {
    "json": _schema,
    "json_object": _object,
    "choice": _choice,
    "grammar": _grammar,
    "regex": _regex,
}
FORMAT_FIELDS: Mapping[str, Reader] = {
    "response_format": _response_format,
    "structured_outputs": _structured_outputs,
    "guided_json": _schema,
    "guided_json_object": _object,
    "guided_choice": _choice,
    "guided_grammar": _grammar,
    "guided_regex": _regex,
    "grammar": _grammar,
    "json_schema": _schema,
}
"""The fields of a body, each with its reader."""
