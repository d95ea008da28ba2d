"""The fields of a response's body that say which form the answer has: `tools`, `tool_choice` and `text`. Pure.

These fields mean what those of a chat mean, and are nested less.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llmactors.gateway.answer_rules import TextFormat
from llmactors.gateway.body import clipped
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.text_formats import read_schema_format
from llmactors.gateway.openai.tools import MAX_TOOLS, check_names, named_choice, read_function, read_tool_choice
from llmactors.tool_calls.functions import Function, ToolChoice


def read_tools(tools: Sequence[Any]) -> tuple[Function, ...]:
    """The functions that the model may call. Raises `InvalidParameter`, also for OpenAI's own tools."""
    if len(tools) > MAX_TOOLS:
        raise InvalidParameter("tools", f"`tools` has {len(tools)} items; at most {MAX_TOOLS} are accepted")
    functions: list[Function] = []
    for number, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind != "function":
            raise InvalidParameter("tools", f"`tools[{number}].type` must be `function`, not {clipped(kind)}")
        functions.append(read_function(f"tools[{number}]", tool))
    check_names("tools", functions)
    return tuple(functions)


def read_choice(choice: Any, functions: Sequence[Function]) -> ToolChoice:
    """The field `tool_choice`. Raises `InvalidParameter`."""
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "function":
        return named_choice([_name("tool_choice", choice)], functions, "required")
    if kind != "allowed_tools":
        return read_tool_choice(choice, functions)
    mode, tools = choice.get("mode"), choice.get("tools")
    if mode not in ("auto", "required"):
        raise InvalidParameter("tool_choice", f"`tool_choice.mode` must be `auto` or `required`, not {clipped(mode)}")
    if not isinstance(tools, list) or not tools:
        raise InvalidParameter("tool_choice", "`tool_choice.tools` must be a list of tools")
    names = [_name(f"tool_choice.tools[{number}]", tool) for number, tool in enumerate(tools)]
    return named_choice(names, functions, mode)


def read_text(text: Mapping[str, Any]) -> TextFormat | None:
    """The field `text`: the form of the text; None for free text. Raises `InvalidParameter`."""
    if text.get("verbosity") not in (None, "medium"):
        raise InvalidParameter("text", "`text.verbosity` is not served here; leave it out")
    form = text.get("format")
    if form is None:
        return None
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return TextFormat("object", where="text.format")
    if kind != "json_schema":
        wanted = "must be `text`, `json_object` or `json_schema`"
        raise InvalidParameter("text", f"`text.format.type` {wanted}, not {clipped(kind)}")
    return read_schema_format("text.format", form)


def _name(where: str, tool: Any) -> str:
    name = tool.get("name") if isinstance(tool, dict) else None
    if not isinstance(name, str):
        raise InvalidParameter("tool_choice", f"`{where}.name` must be a text")
    return name
