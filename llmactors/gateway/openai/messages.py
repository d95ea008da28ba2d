"""The messages of a conversation, as the bodies of the OpenAI routes have them. Pure."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from llmactors.gateway.body import clipped
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.images import IMAGE_KINDS, PartCollector, read_image
from llmactors.gateway.openai.tools import read_calls
from llmactors.messages import ChatMessage, Image

MAX_MESSAGES = 2048
MAX_PARTS = 4096
"""The number of content parts and calls of all messages of a body."""
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


def without_empty_answers(param: str, messages: list[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The messages without the empty answers at their end: a chat template would let the model continue such an answer.

    Raises `InvalidParameter` if nothing else is left.
    """
    while messages and _is_empty_answer(messages[-1]):
        messages = messages[:-1]
    if not messages:
        raise InvalidParameter(param, f"`{param}` has no message but empty answers")
    return tuple(messages)


def _is_empty_answer(message: ChatMessage) -> bool:
    return message.role == "assistant" and not message.content and not message.tool_calls


def check_parts(param: str, messages: Iterable[object]) -> None:
    """Raises `InvalidParameter` where the messages have too many content parts and calls together."""
    objects = [message for message in messages if isinstance(message, dict)]
    lists = (message.get(name) for message in objects for name in ("content", "tool_calls"))
    parts = sum(len(each) for each in lists if isinstance(each, list))
    if parts > MAX_PARTS:
        raise InvalidParameter(
            param, f"`{param}` has {parts} content parts and calls of tools; at most {MAX_PARTS} are accepted"
        )


def read_message(
    param: str, where: str, fields: Mapping[str, Any], kinds: Collection[str] = frozenset({"text"})
) -> ChatMessage:
    """One message, at `where` in the field `param`. `kinds` are the types of content parts that are text."""
    role = fields.get("role")
    if not isinstance(role, str) or role not in ROLES:
        served = ", ".join(ROLES)
        raise InvalidParameter(param, f"`{where}.role` must be one of {served}, not {clipped(role)}")
    if fields.get("function_call"):
        raise InvalidParameter(param, f"`{where}.function_call` is not served here; send `tool_calls`")
    calls = read_calls(param, where, fields["tool_calls"]) if fields.get("tool_calls") else ()
    if calls and role != "assistant":
        raise InvalidParameter(param, f"`{where}.tool_calls` belongs to messages of the role `assistant`")
    content = fields.get("content")
    if content is None and role in {"assistant", "tool"}:
        content = ""  # clients send null for an earlier answer that had only tool calls, or a refusal
    call_id = fields.get("tool_call_id") if role == "tool" else None
    text, images = read_content(param, f"{where}.content", content, kinds)
    if images and role != "user":
        raise InvalidParameter(param, f"`{where}.content` has an image; only messages of the role user may have one")
    return ChatMessage(ROLES[role], text, calls, call_id if isinstance(call_id, str) else "", images)


def read_content(param: str, where: str, content: object, kinds: Collection[str]) -> tuple[str, tuple[Image, ...]]:
    """The text and the images of a text, or of a list of parts, at `where` in the field `param`.

    Raises `InvalidParameter`.
    """
    if isinstance(content, str):
        return content, ()
    if not isinstance(content, list):
        raise InvalidParameter(param, f"`{where}` must be a text, or a list of parts")
    parts = PartCollector()
    for number, part in enumerate(content):
        kind: object = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind in IMAGE_KINDS:
            parts.add_image(read_image(param, f"{where}[{number}]", part, parts.length))
            continue
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(kind, str) or kind not in kinds or not isinstance(text, str):
            served = "only texts and images are served"
            raise InvalidParameter(param, f"`{where}[{number}]` is a part of type {clipped(kind)}; {served}")
        parts.add_text(text)
    return parts.content, parts.images
