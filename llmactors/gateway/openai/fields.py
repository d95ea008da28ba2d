"""Reads the fields of a JSON body of OpenAI's routes into the class of the body. Pure."""

from typing import Any, TypeVar, cast

import attrs
import msgspec

from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.prompts import PROMPT_FORMS
from llmactors.gateway.openai.unserved import EXTENSIONS, Unserved, asks_for_nothing

T = TypeVar("T")


def read_fields(fields: dict[str, Any], kind: type[T], unserved: Unserved) -> T:
    """A body. Unknown fields are ignored. The fields in `unserved`, and those in `EXTENSIONS` that `kind` does not
    have, may have only the values given there.
    """
    own = _names(kind)
    extensions = ((name, harmless) for name, harmless in EXTENSIONS.items() if name not in own)
    for name, harmless in (*unserved.items(), *extensions):
        if name in fields and not asks_for_nothing(fields[name], harmless):
            raise InvalidParameter(name, f"`{name}` is not served here; leave it out")
    return convert_known(fields, kind)


def _names(kind: type[Any]) -> set[str]:
    return {field.name for field in attrs.fields(cast("type[attrs.AttrsInstance]", kind))}


def convert_known(fields: dict[str, Any], kind: type[T]) -> T:
    """The fields of a body that `kind` has. Raises `InvalidParameter`, which names the wrong field."""
    known = _names(kind)
    try:
        return msgspec.convert({name: value for name, value in fields.items() if name in known}, kind, str_keys=True)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at ")
        param = where.rpartition("`$.")[2].rstrip("`")
        if not param and "required field" in text:
            param = text.split("`")[1]
            raise InvalidParameter(param, f"`{param}` is missing") from None
        name = param.partition("[")[0].partition(".")[0]
        if name == "prompt":
            raise InvalidParameter(name, PROMPT_FORMS) from None
        raise InvalidParameter(name, f"`{param}`: {text}" if where else text) from None
