"""A conversation as llama.cpp's server takes it: turns, calls of tools, and the tools themselves. Pure."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs
import msgspec

from llmactors.messages import NO_THINKING, ChatMessage, Image, ToolCall
from llmactors.tool_calls.history import chat_message

_ID_CHARS = 9
"""Mistral's templates refuse ids of another length."""
_ANY_IMAGE = "data:image/png;base64,AAAA"
"""The URL that stands for each image: llama.cpp only marks the image's place in the text."""


@attrs.frozen
class Conversation:
    """What a chat template renders."""

    messages: Sequence[ChatMessage]
    tools: str = ""
    """The tools as the text of a JSON array; empty for none."""
    effort: str = ""
    """How long the model is to think, as in `GenerateRequest.reasoning_effort`."""

    @property
    def texts(self) -> list[str]:
        """All texts that a client has written, in a fixed order."""
        return [*_texts(self.messages), self.tools]

    @property
    def images(self) -> list[Image]:
        """All images in their order."""
        return [image for message in self.messages for image in message.images]

    def with_texts(self, texts: Iterable[str]) -> "Conversation":
        """The same conversation with other texts, in the order of `texts`."""
        rest = iter(texts)
        messages = tuple(_with_texts(message, rest) for message in self.messages)
        return attrs.evolve(self, messages=messages, tools=next(rest))

    @property
    def body(self) -> dict[str, Any]:
        """The body of a request to `/apply-template`."""
        body: dict[str, Any] = {"messages": [chat_message(_with_any_images(each), _short_id) for each in self.messages]}
        if self.tools:
            body["tools"] = msgspec.Raw(self.tools.encode())
        if self.effort:
            # Some templates know degrees of effort, others only know whether the model thinks.
            thinks = self.effort not in NO_THINKING
            body["chat_template_kwargs"] = {"reasoning_effort": self.effort, "enable_thinking": thinks}
        return body


def knows_effort(template: str) -> bool:
    """Whether a chat template can say how long the model is to think."""
    return "reasoning_effort" in template or "enable_thinking" in template


def conversation(messages: Iterable[ChatMessage], tools: str = "", effort: str = "") -> Conversation:
    """The conversation, with the arguments of each call in the usual form of JSON.

    A control token that is written with escapes in the JSON would otherwise become a control token in the template.
    """
    return Conversation(tuple(_with_usual_arguments(message) for message in messages), tools, effort)


def _with_usual_arguments(message: ChatMessage) -> ChatMessage:
    if not message.tool_calls:
        return message
    calls = tuple(msgspec.structs.replace(call, arguments=_usual(call.arguments)) for call in message.tool_calls)
    return msgspec.structs.replace(message, tool_calls=calls)


def _usual(arguments: str) -> str:
    """The JSON without needless escapes. A text that is no JSON, such as a call that was cut, becomes a JSON string."""
    try:
        return msgspec.json.encode(msgspec.json.decode(arguments)).decode()
    except (msgspec.DecodeError, RecursionError):
        return msgspec.json.encode(arguments).decode()


def _texts(messages: Iterable[ChatMessage]) -> Iterator[str]:
    for message in messages:
        yield message.content
        for call in message.tool_calls:
            yield call.name
            yield call.arguments


def _with_texts(message: ChatMessage, texts: Iterator[str]) -> ChatMessage:
    content = next(texts)
    calls = tuple(ToolCall(call.id, next(texts), next(texts)) for call in message.tool_calls)
    return ChatMessage(message.role, content, calls, message.tool_call_id)


def _with_any_images(message: ChatMessage) -> ChatMessage:
    if not message.images:
        return message
    images = tuple(Image(_ANY_IMAGE, image.at) for image in message.images)
    return msgspec.structs.replace(message, images=images)


def _short_id(call_id: str) -> str:
    """An id of letters and digits, equal for equal ids: some templates show the ids to the model."""
    return hashlib.blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()[:_ID_CHARS]
