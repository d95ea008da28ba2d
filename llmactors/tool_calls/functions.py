"""The tools that a client offers, in a form that all APIs share. Pure."""

from collections.abc import Sequence
from typing import Any, Literal

import attrs
import msgspec

# Sorted, so that two bodies that differ only in the order of their keys are the same request. The properties of a
# schema keep their order: it is the order in which the model writes them.
_encode = msgspec.json.Encoder().encode


@attrs.frozen
class Function:
    """One tool: a function of the client that the model may call."""

    name: str
    description: str | None = None
    parameters: Any = None
    """The JSON schema of the arguments. None: the function takes none."""
    strict: bool = False
    """Whether a schema that cannot be served is refused. Otherwise the arguments are any JSON object then."""
    where: str = "tools"
    """The field of the client's body that holds `parameters`, for errors."""

    @property
    def definition(self) -> dict[str, Any]:
        """The tool in the form of OpenAI's chat API, which chat templates read."""
        function: dict[str, Any] = {"name": self.name}
        if self.description is not None:
            function["description"] = self.description
        function["parameters"] = {"type": "object", "properties": {}} if self.parameters is None else self.parameters
        if self.strict:
            function["strict"] = True
        return {"type": "function", "function": function}


@attrs.frozen
class ToolChoice:
    """Whether the model has to call a tool, and which tools it may call."""

    mode: Literal["auto", "required", "none"] = "auto"
    """`required`: the answer is one call at least, and no text comes first."""
    allowed: frozenset[str] | None = None
    """The names of the tools that may be called; None for all."""

    @property
    def is_named(self) -> bool:
        """Whether one function is named, which has to be called."""
        return self.mode == "required" and self.allowed is not None and len(self.allowed) == 1


AUTO = ToolChoice()
"""The model may call any tool, or none."""


def choice_of(tool_choice: ToolChoice) -> str:
    """The value of `ToolUse.choice`."""
    if tool_choice.allowed is None:
        return "" if tool_choice.mode == "auto" else _encode(tool_choice.mode).decode()
    tools = [{"type": "function", "function": {"name": name}} for name in sorted(tool_choice.allowed)]
    if tool_choice.is_named:
        return _encode(tools[0]).decode()
    allowed = {"mode": tool_choice.mode, "tools": tools}
    return _encode({"type": "allowed_tools", "allowed_tools": allowed}).decode()


def definitions_of(functions: Sequence[Function]) -> str:
    """The value of `ToolUse.definitions`."""
    return _encode([function.definition for function in functions]).decode()
