"""The fields about tools in a body of Anthropic's API. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmactors.gateway.answer_rules import AnswerRules, TextFormat
from llmactors.gateway.body import clipped
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.tools import check_names, named_choice, read_function
from llmactors.tool_calls.functions import AUTO, Function, ToolChoice

_CUSTOM = (None, "custom")


def read_rules(
    tools: Sequence[Any], choice: Mapping[str, Any] | None, output_config: Mapping[str, Any] | None
) -> AnswerRules | None:
    """What the client wants of the form of the answer; None for free text. Raises `InvalidParameter`."""
    functions = tuple(_function(f"tools[{number}]", tool) for number, tool in enumerate(tools))
    check_names("tools", functions)
    tool_choice = _read_choice(choice or {"type": "auto"}, functions)
    if tool_choice.mode == "none":
        functions = ()  # the model does not see tools that it may not call
    text_format = _read_format(None if output_config is None else output_config.get("format"))
    if not functions and text_format is None:
        return None
    parallel = choice is None or choice.get("disable_parallel_tool_use") is not True
    return AnswerRules(functions, tool_choice, parallel, text_format)


def _function(where: str, tool: Any) -> Function:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind not in _CUSTOM:
        raise InvalidParameter("tools", f"`{where}.type` {clipped(kind)} is not served here; only tools of clients are")
    return read_function(where, tool, parameters="input_schema")


def _read_choice(choice: Mapping[str, Any], functions: Sequence[Function]) -> ToolChoice:
    match choice.get("type"):
        case "auto":
            return AUTO
        case "none":
            return ToolChoice("none")
        case "any":
            if not functions:
                raise InvalidParameter("tool_choice", "`tool_choice` is `any`, but there are no `tools`")
            return ToolChoice("required")
        case "tool":
            name = choice.get("name")
            if not isinstance(name, str):
                raise InvalidParameter("tool_choice", "`tool_choice.name` must be a text")
            return named_choice([name], functions, "required")
        case kind:
            wanted = "must be `auto`, `any`, `tool` or `none`"
            raise InvalidParameter("tool_choice", f"`tool_choice.type` {wanted}, not {clipped(kind)}")


def _read_format(form: Any) -> TextFormat | None:
    if form is None:
        return None
    if not isinstance(form, dict) or form.get("type") != "json_schema" or not isinstance(form.get("schema"), dict):
        raise InvalidParameter(
            "output_config", "`output_config.format` must have `json_schema` as `type` and an object as `schema`"
        )
    return TextFormat("schema", form["schema"], strict=True, where="output_config.format.schema")
