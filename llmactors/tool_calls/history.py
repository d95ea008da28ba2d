"""The turns of a conversation in the form of OpenAI's chat API, which chat templates and other servers read. Pure."""

from collections.abc import Callable
from typing import Any

from llmactors.messages import ChatMessage, Image


def chat_message(message: ChatMessage, id_of: Callable[[str], str] = str) -> dict[str, Any]:
    """One turn. `id_of` gives the id that stands for the id of a call."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.images:
        turn["content"] = [_part(part) for part in message.parts]
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": id_of(call.id), "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        turn["tool_call_id"] = id_of(message.tool_call_id)
    return turn


def _part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    image = {"url": part.url, "detail": part.detail} if part.detail else {"url": part.url}
    return {"type": "image_url", "image_url": image}
