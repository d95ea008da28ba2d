"""From the items of a response's `input` to the messages for the model. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmactors.gateway.body import clipped
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.messages import read_content, read_message
from llmactors.messages import ChatMessage, ToolCall

_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})


def read_items(items: Sequence[object]) -> list[ChatMessage]:
    """The messages. Raises `InvalidParameter`, which names the item.

    A call of a function belongs to the answer before it. The reasoning of earlier answers is left out, as chat
    templates leave it out too.
    """
    messages: list[ChatMessage] = []
    for number, item in enumerate(items):
        where = f"input[{number}]"
        if not isinstance(item, dict):
            raise InvalidParameter("input", f"`{where}` must be an item")
        kind = item.get("type", "message")
        if not isinstance(kind, str) or kind not in _READERS:
            raise InvalidParameter("input", f"`{where}` has the type {clipped(kind)}, which is not served here")
        for message in _READERS[kind](where, item):
            _append(messages, message)
    return messages


def _append(messages: list[ChatMessage], message: ChatMessage) -> None:
    last = messages[-1] if messages else None
    if last is not None and last.role == "assistant" and message.tool_calls and not message.content:
        messages[-1] = ChatMessage("assistant", last.content, last.tool_calls + message.tool_calls)
    else:
        messages.append(message)


def _message(where: str, item: Mapping[str, Any]) -> list[ChatMessage]:
    if item.get("role") == "tool" or item.get("tool_calls"):
        raise InvalidParameter("input", f"`{where}` is about a call; send `function_call` and `function_call_output`")
    return [read_message("input", where, item, _TEXT_PARTS)]


def _call(where: str, item: Mapping[str, Any]) -> list[ChatMessage]:
    call_id, name, arguments = (_text(where, item, key) for key in ("call_id", "name", "arguments"))
    if not name:
        raise InvalidParameter("input", f"`{where}.name` is empty")
    return [ChatMessage("assistant", "", (ToolCall(call_id, name, arguments),))]


def _call_output(where: str, item: Mapping[str, Any]) -> list[ChatMessage]:
    text, images = read_content("input", f"{where}.output", item.get("output"), _TEXT_PARTS)
    if images:
        raise InvalidParameter("input", f"`{where}.output` has an image; only the messages of users may have images")
    return [ChatMessage("tool", text, tool_call_id=_text(where, item, "call_id"))]


def _reasoning(_where: str, _item: Mapping[str, Any]) -> list[ChatMessage]:
    return []


def _text(where: str, item: Mapping[str, Any], key: str) -> str:
    found = item.get(key)
    if not isinstance(found, str):
        raise InvalidParameter("input", f"`{where}.{key}` must be a text")
    return found


_READERS: Mapping[str, Callable[[str, Mapping[str, Any]], list[ChatMessage]]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _call_output,
    "reasoning": _reasoning,
}
