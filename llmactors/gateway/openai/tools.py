"""The fields about tools in a chat's body: `tools`, `tool_choice`, `parallel_tool_calls`, and calls in the history.
Pure.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import msgspec

from llmactors.gateway.body import clipped
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.messages import ToolCall
from llmactors.tool_calls.functions import Function, ToolChoice

MAX_TOOLS = 256
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def read_functions(tools: Sequence[Any]) -> tuple[Function, ...]:
    """The tools of a chat's body. Raises `InvalidParameter`."""
    if len(tools) > MAX_TOOLS:
        raise InvalidParameter("tools", f"`tools` has {len(tools)} items; at most {MAX_TOOLS} are accepted")
    functions = tuple(_function(f"tools[{number}]", tool) for number, tool in enumerate(tools))
    check_names("tools", functions)
    return functions


def _function(where: str, tool: Any) -> Function:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind != "function":
        raise InvalidParameter("tools", f"`{where}.type` must be `function`, not {clipped(kind)}")
    return read_function(f"{where}.function", tool.get("function"))


def read_function(where: str, fields: Any, parameters: str = "parameters") -> Function:
    """One function, at `where` in the body. `parameters` is the name of the field with the schema of the arguments.

    Raises `InvalidParameter`.
    """
    param = where.partition("[")[0]
    if not isinstance(fields, Mapping):
        raise InvalidParameter(param, f"`{where}` must be an object")
    name, description, schema = fields.get("name"), fields.get("description"), fields.get(parameters)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        wanted = "must have 1 to 128 letters, digits, underscores, dots and dashes"
        raise InvalidParameter(param, f"`{where}.name` {wanted}, not {clipped(name)}")
    if description is not None and not isinstance(description, str):
        raise InvalidParameter(param, f"`{where}.description` must be a text")
    if schema is not None and not isinstance(schema, Mapping):
        raise InvalidParameter(param, f"`{where}.{parameters}` must be an object")
    strict = fields.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise InvalidParameter(param, f"`{where}.strict` must be a boolean")
    return Function(name, description, schema, bool(strict), f"{where}.{parameters}")


def check_names(param: str, functions: Sequence[Function]) -> None:
    """Raises `InvalidParameter` where two functions have the same name."""
    names = Counter(function.name for function in functions)
    for name, count in names.items():
        if count > 1:
            raise InvalidParameter(param, f"`{param}` has two functions called {clipped(name)}")


def read_tool_choice(choice: Any, functions: Sequence[Function]) -> ToolChoice:
    """The field `tool_choice` of a chat's body. Raises `InvalidParameter`."""
    if choice is None:
        choice = "auto"
    if isinstance(choice, str):
        if choice not in {"auto", "none", "required"}:
            wanted = "must be `none`, `auto`, `required` or an object"
            raise InvalidParameter("tool_choice", f"`tool_choice` {wanted}, not {clipped(choice)}")
        if choice == "required" and not functions:
            raise InvalidParameter("tool_choice", "`tool_choice` is `required`, but there are no `tools`")
        return ToolChoice(cast('Literal["auto", "none", "required"]', choice))
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "function":
        return named_choice([_chosen_name("tool_choice", choice)], functions, "required")
    if kind == "allowed_tools":
        return _allowed(choice.get("allowed_tools"), functions)
    raise InvalidParameter("tool_choice", f"`tool_choice.type` {clipped(kind)} is not served here")


def named_choice(names: Sequence[str], functions: Sequence[Function], mode: Literal["auto", "required"]) -> ToolChoice:
    """The choice of some functions only. Raises `InvalidParameter` for a name that no function has."""
    known = {function.name for function in functions}
    if (unknown := next((name for name in names if name not in known), None)) is not None:
        raise InvalidParameter("tool_choice", f"`tool_choice` names {clipped(unknown)}, which is not in `tools`")
    return ToolChoice(mode, frozenset(names))


def _allowed(fields: Any, functions: Sequence[Function]) -> ToolChoice:
    where = "tool_choice.allowed_tools"
    mode, tools = (fields.get("mode"), fields.get("tools")) if isinstance(fields, dict) else (None, None)
    if not isinstance(mode, str) or mode not in ("auto", "required"):
        raise InvalidParameter("tool_choice", f"`{where}.mode` must be `auto` or `required`, not {clipped(mode)}")
    if not isinstance(tools, list) or not tools:
        raise InvalidParameter("tool_choice", f"`{where}.tools` must be a list of tools")
    names = [_chosen_name(f"{where}.tools[{number}]", tool) for number, tool in enumerate(tools)]
    return named_choice(names, functions, "auto" if mode == "auto" else "required")


def _chosen_name(where: str, tool: Any) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise InvalidParameter("tool_choice", f"`{where}.function.name` must be a text")
    return name


def read_calls(param: str, where: str, calls: Any) -> tuple[ToolCall, ...]:
    """The calls of an assistant's message in the history. Raises `InvalidParameter`.

    Ids are taken as they are: a client may have made them up, or may have cut off the calls that an id answers.
    """
    if not isinstance(calls, list):
        raise InvalidParameter(param, f"`{where}.tool_calls` must be a list of calls")
    return tuple(_call(param, f"{where}.tool_calls[{number}]", call) for number, call in enumerate(calls))


def _call(param: str, where: str, call: Any) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or call.get("type", "function") != "function":
        raise InvalidParameter(param, f"`{where}` must be the call of a function")
    name, arguments, call_id = function.get("name"), function.get("arguments"), call.get("id")
    if not isinstance(name, str) or not name:
        raise InvalidParameter(param, f"`{where}.function.name` must be a text")
    if isinstance(arguments, dict):
        arguments = msgspec.json.encode(arguments).decode()  # some clients send the object itself
    if not isinstance(arguments, str):
        raise InvalidParameter(param, f"`{where}.function.arguments` must be the text of a JSON object")
    return ToolCall(call_id if isinstance(call_id, str) else "", name, arguments)
