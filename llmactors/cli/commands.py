"""The names of all commands, and the line that each has in the list of commands."""

import ast
import importlib.util
from pathlib import Path

COMMANDS = (
    "serve",
    "up",
    "gateway",
    "worker",
    "drain",
    "uncordon",
    "reload",
    "upgrade",
    "forget",
    "tree",
    "top",
    "generate",
    "load",
    "bench",
    "pull",
    "demo",
)
"""Each is the function `command` of the module with the command's name."""
GROUPS = ("keys", "queue", "usage", "config")
"""Commands with commands of their own. Each is the `app` of the module with the group's name, and has the module's
help."""


def summary(name: str) -> str:
    """The first sentence of a command's help, without an import of its module: that would import half of the server.

    A command's help is the docstring of its function; a group's help is the docstring of its module.
    """
    spec = importlib.util.find_spec(f"llmactors.cli.{name}")
    assert spec is not None  # noqa: S101
    assert spec.origin is not None  # noqa: S101
    module = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == "command"]
    text = ast.get_docstring(functions[0] if functions else module) or ""
    return " ".join(text.partition("\n\n")[0].split())
