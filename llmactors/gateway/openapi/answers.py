"""The bodies of answers, as types: what is rendered piece by piece elsewhere, told as a whole."""

from typing import Any, Literal

import attrs

from llmactors.backends.base import Capabilities
from llmactors.messages import FinishReason


@attrs.frozen
class UsageCounts:
    """What it cost, in tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@attrs.frozen
class Generated:
    """A whole answer of `POST /v1/generate`."""

    id: str
    model: str
    text: str
    finish_reason: FinishReason
    usage: UsageCounts


@attrs.frozen
class Cancelled:
    """Whether the stream was still running."""

    id: str
    cancelled: bool


@attrs.frozen
class Ticket:
    """Good for one WebSocket, and for so many seconds."""

    ticket: str
    expires_in_s: int


@attrs.frozen
class ErrorDetail:
    """`code` is stable; `message` is for people."""

    code: str
    message: str
    request_id: str


@attrs.frozen
class Error:
    """Any error of the native routes."""

    error: ErrorDetail


@attrs.frozen
class CompatibleErrorDetail:
    """As OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


@attrs.frozen
class CompatibleError:
    """Any error of OpenAI's routes."""

    error: CompatibleErrorDetail


@attrs.frozen
class AssistantMessage:
    """What the model says."""

    role: Literal["assistant"]
    content: str
    refusal: None


@attrs.frozen
class ChatChoice:
    """One answer."""

    index: int
    message: AssistantMessage
    logprobs: None
    finish_reason: Literal["stop", "length"]


@attrs.frozen
class ChatCompletion:
    """A whole answer of `POST /v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageCounts


@attrs.frozen
class CompletionChoice:
    """One answer."""

    index: int
    text: str
    logprobs: None
    finish_reason: Literal["stop", "length"]


@attrs.frozen
class Completion:
    """A whole answer of `POST /v1/completions`."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageCounts


@attrs.frozen
class Model:
    """A model that can be asked."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


@attrs.frozen
class ModelList:
    """All models that can be asked."""

    object: Literal["list"]
    data: list[Model]


@attrs.frozen
class Alive:
    """The process answers."""

    status: Literal["ok"]


@attrs.frozen
class Readiness:
    """What keeps requests from being taken, by component."""

    status: Literal["ready", "not ready"]
    problems: dict[str, str]


@attrs.frozen
class GatewayHealth:
    """Of this gateway."""

    state: Literal["ready", "draining"]


@attrs.frozen
class ModelHealth:
    """Of one model."""

    state: str
    detail: str
    capabilities: Capabilities | None


@attrs.frozen
class Components:
    """All of them."""

    gateway: GatewayHealth
    ledger: dict[str, Any]
    models: dict[str, ModelHealth]


@attrs.frozen
class Health:
    """Every component and how it is."""

    status: Literal["healthy", "unhealthy"]
    components: Components


@attrs.frozen
class TreePart:
    """A supervisor, which has children, or an actor, which has none; each with more about itself than this."""

    name: str
    path: str
    state: str
    incarnation: int
    restarts: int
    last_exit: str
    children: "list[TreePart]" = attrs.field(factory=list)


@attrs.frozen
class OutputText:
    """What the model says."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[Any]


@attrs.frozen
class OutputMessage:
    """The one item of a response's output."""

    id: str
    type: Literal["message"]
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"]
    content: list[OutputText]


@attrs.frozen
class ResponseUsage:
    """What it cost, in tokens."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


@attrs.frozen
class ResponseObject:
    """A response as it is now; with more fields, that tell how it was asked for."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    background: bool
    error: dict[str, str] | None
    incomplete_details: dict[str, str] | None
    model: str
    output: list[OutputMessage]
    usage: ResponseUsage | None
