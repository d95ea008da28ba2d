"""Sets of tools as agents offer them, in each format of calls, with free and with forced calls."""

import random
from collections.abc import Iterator

import attrs

from llmactors.testing.schemas.keyword_schemas import KEYWORD_SCHEMAS
from llmactors.testing.schemas.model_schemas import MODEL_SCHEMAS
from llmactors.testing.schemas.tool_schemas import TOOL_SCHEMAS
from llmactors.tool_calls.functions import Function, ToolChoice

_SCHEMAS = KEYWORD_SCHEMAS | MODEL_SCHEMAS | TOOL_SCHEMAS
_OBJECTS = [name for name, schema in _SCHEMAS.items() if isinstance(schema, dict) and schema.get("type") == "object"]
_FORMATS = ("hermes", "llama3", "mistral")
_COUNT = 21


@attrs.frozen
class ToolSet:
    """The tools of one request."""

    form: str
    """The format of calls, a key of `tool_calls.formats.FORMATS`."""
    functions: tuple[Function, ...]
    choice: ToolChoice


def _tool_sets() -> Iterator[tuple[str, ToolSet]]:
    rng = random.Random(4)
    for number in range(_COUNT):
        names = rng.sample(_OBJECTS, 1 + number % 3)
        form = _FORMATS[number % 3]
        # The mock's free answers in the format of Llama 3 would nearly never be calls.
        choice = ToolChoice("required" if number % 2 or form == "llama3" else "auto")
        functions = tuple(Function(f"tool-{at}", parameters=_SCHEMAS[name]) for at, name in enumerate(names))
        yield f"{number}: {form} {choice.mode}", ToolSet(form, functions, choice)


TOOL_SETS: dict[str, ToolSet] = dict(_tool_sets())
"""The sets by their names. Each has one to three tools."""
