"""The bodies of whole answers of Anthropic's API, for the OpenAPI document. `blocks` makes answers."""

from typing import Any, Literal

import attrs


@attrs.frozen
class ContentBlock:
    """One block of an answer: `text`, `thinking` or `tool_use`. The other fields depend on the type."""

    type: Literal["text", "thinking", "tool_use"]
    text: str = ""
    thinking: str = ""
    signature: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = attrs.field(factory=dict)
    caller: dict[str, str] = attrs.field(factory=dict)
    citations: None = None


@attrs.frozen
class MessageUsage:
    """The number of tokens of the prompt and of the answer."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    cache_creation: None
    inference_geo: None
    output_tokens_details: None
    server_tool_use: None
    service_tier: Literal["standard"]


@attrs.frozen
class Message:
    """The body of a whole answer of `POST /v1/messages`."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ContentBlock]
    stop_reason: Literal["end_turn", "max_tokens", "model_context_window_exceeded", "stop_sequence", "tool_use"]
    stop_sequence: str | None
    stop_details: None
    container: None
    usage: MessageUsage


@attrs.frozen
class MessageTokens:
    """The body of an answer of `POST /v1/messages/count_tokens`."""

    input_tokens: int
