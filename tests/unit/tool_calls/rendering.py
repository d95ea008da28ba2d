"""How models of each format write calls, for tests."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Call = tuple[str, dict[str, Any]]


def hermes(calls: Sequence[Call]) -> str:
    return "\n".join(
        "<tool_call>\n" + json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False) + "\n</tool_call>"
        for name, arguments in calls
    )


def llama3(calls: Sequence[Call]) -> str:
    return "; ".join(
        json.dumps({"name": name, "parameters": arguments}, ensure_ascii=False) for name, arguments in calls
    )


def llama3_tagged(calls: Sequence[Call]) -> str:
    return "<|python_tag|>" + llama3(calls) if calls else ""


def mistral(calls: Sequence[Call]) -> str:
    listed = [{"name": name, "arguments": arguments, "id": "abcdefghi"} for name, arguments in calls]
    return "[TOOL_CALLS]" + json.dumps(listed) if calls else ""


def mistral_named(calls: Sequence[Call]) -> str:
    return "".join(f"[TOOL_CALLS]{name}[ARGS]{json.dumps(arguments)}" for name, arguments in calls)


def mistral_numbered(calls: Sequence[Call]) -> str:
    return "".join(f"[TOOL_CALLS]{name}[CALL_ID]123456789[ARGS]{json.dumps(arguments)}" for name, arguments in calls)


RENDERINGS: Mapping[str, tuple[str, Callable[[Sequence[Call]], str]]] = {
    "hermes": ("hermes", hermes),
    "llama3": ("llama3", llama3),
    "llama3 with a tag": ("llama3", llama3_tagged),
    "mistral": ("mistral", mistral),
    "mistral by name": ("mistral", mistral_named),
    "mistral with ids": ("mistral", mistral_numbered),
}
"""Ways to write calls, each with the name of its format."""
