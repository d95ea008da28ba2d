"""The conversation in a body of Anthropic's API: the system prompt, and messages of content blocks. Pure.

A message of the user may hold the results of tools, texts and images. Each result, and the texts and images before and
behind it, become a message of their own, in their order.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from llmactors.gateway.body import clipped
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.images import PartCollector, read_image
from llmactors.gateway.openai.messages import MAX_PARTS, without_empty_answers
from llmactors.messages import ChatMessage, Image, ToolCall

_THOUGHTS = ("thinking", "redacted_thinking")
"""Blocks that are left out: a chat template takes no earlier reasoning."""


def read_history(system: str | Sequence[Any] | None, messages: Sequence[Mapping[str, Any]]) -> tuple[ChatMessage, ...]:
    """The whole conversation. Raises `InvalidParameter`, which names the wrong field."""
    _check_count(messages)
    found: list[ChatMessage] = []
    if system:
        text = system if isinstance(system, str) else _texts("system", "system", system)
        found.append(ChatMessage("system", text))
    for number, message in enumerate(messages):
        found += _read_message(f"messages[{number}]", message)
    return without_empty_answers("messages", found)


def _check_count(messages: Sequence[Mapping[str, Any]]) -> None:
    contents = (message.get("content") for message in messages)
    blocks = sum(len(content) for content in contents if isinstance(content, list))
    if blocks > MAX_PARTS:
        raise InvalidParameter("messages", f"`messages` has {blocks} content blocks; at most {MAX_PARTS} are accepted")


def _read_message(where: str, message: Mapping[str, Any]) -> list[ChatMessage]:
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in {"user", "assistant", "system"}:
        raise InvalidParameter(
            "messages", f"`{where}.role` must be `user`, `assistant` or `system`, not {clipped(role)}"
        )
    if isinstance(content, str):
        return [ChatMessage(role, content)]
    if not isinstance(content, list):
        raise InvalidParameter("messages", f"`{where}.content` must be a text, or a list of content blocks")
    blocks = [(f"{where}.content[{number}]", block) for number, block in enumerate(content)]
    return [_answer(blocks)] if role == "assistant" else _turns(role, blocks)


def _turns(role: str, blocks: Sequence[tuple[str, Any]]) -> list[ChatMessage]:
    """The messages of a user's turn, or of a system prompt between turns."""
    found: list[ChatMessage] = []
    parts = PartCollector()
    for where, block in blocks:
        kind = _kind(block) if role == "user" else None
        if kind == "tool_result":
            if parts:
                found.append(ChatMessage(role, parts.content, images=parts.images))
                parts = PartCollector()
            found.append(_result(where, block))
        elif kind == "image":
            parts.add_image(_image(where, block, parts.length))
        else:
            parts.add_text(_text("messages", where, block))
    if parts or not found:
        found.append(ChatMessage(role, parts.content, images=parts.images))
    return found


def _image(where: str, block: Mapping[str, Any], at: int) -> Image:
    source = block.get("source")
    if not isinstance(source, dict) or source.get("type") not in ("base64", "url"):
        raise InvalidParameter("messages", f"`{where}.source` must be an image of the type `base64` or `url`")
    if source["type"] == "url":
        return read_image("messages", where, {"image_url": source.get("url")}, at)
    media_type, data = source.get("media_type"), source.get("data")
    if not isinstance(media_type, str) or not isinstance(data, str):
        raise InvalidParameter("messages", f"`{where}.source` must have a text as `media_type` and as `data`")
    return read_image("messages", where, {"image_url": f"data:{media_type};base64,{data}"}, at)


def _answer(blocks: Sequence[tuple[str, Any]]) -> ChatMessage:
    """An earlier answer of the model, with its calls."""
    texts: list[str] = []
    calls: list[ToolCall] = []
    for where, block in blocks:
        kind = _kind(block)
        if kind == "tool_use":
            calls.append(_call(where, block))
        elif kind not in _THOUGHTS:
            texts.append(_text("messages", where, block))
    return ChatMessage("assistant", "\n".join(texts), tuple(calls))


def _call(where: str, block: Mapping[str, Any]) -> ToolCall:
    call_id, name, arguments = block.get("id"), block.get("name"), block.get("input")
    if not isinstance(name, str) or not name:
        raise InvalidParameter("messages", f"`{where}.name` must be a text")
    if not isinstance(call_id, str) or not isinstance(arguments, dict):
        raise InvalidParameter("messages", f"`{where}` must have a text as `id` and an object as `input`")
    return ToolCall(call_id, name, msgspec.json.encode(arguments).decode())


def _result(where: str, block: Mapping[str, Any]) -> ChatMessage:
    call_id, content = block.get("tool_use_id"), block.get("content")
    if not isinstance(call_id, str):
        raise InvalidParameter("messages", f"`{where}.tool_use_id` must be a text")
    if content is None or isinstance(content, str):
        return ChatMessage("tool", content or "", tool_call_id=call_id)
    return ChatMessage("tool", _texts("messages", f"{where}.content", content), tool_call_id=call_id)


def _texts(param: str, where: str, blocks: Any) -> str:
    if not isinstance(blocks, list):
        raise InvalidParameter(param, f"`{where}` must be a text, or a list of text blocks")
    return "\n".join(_text(param, f"{where}[{number}]", block) for number, block in enumerate(blocks))


def _text(param: str, where: str, block: Any) -> str:
    kind, text = _kind(block), block.get("text") if isinstance(block, dict) else None
    if kind != "text" or not isinstance(text, str):
        raise InvalidParameter(param, f"`{where}` is a block of type {clipped(kind)}, which is not served here")
    return text


def _kind(block: Any) -> object:
    return block.get("type") if isinstance(block, dict) else None
