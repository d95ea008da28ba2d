"""The bodies of whole answers of the OpenAI routes, for the OpenAPI document. `render` makes answers piece by piece."""

from typing import Any, Literal

import attrs
import msgspec


@attrs.frozen
class CalledFunction:
    """A tool that the model calls, with its arguments as the text of a JSON object."""

    name: str
    arguments: str


@attrs.frozen
class MessageCall:
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: CalledFunction


@attrs.frozen
class AssistantMessage:
    """The text that the model generated."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[MessageCall] | msgspec.UnsetType = msgspec.UNSET


@attrs.frozen
class TopLogprobObject:
    """One of the most probable tokens at a place of the answer."""

    token: str
    logprob: float
    bytes: list[int]
    """The text in UTF-8, which may be a part of a character."""


@attrs.frozen
class LogprobObject:
    """One token of the answer."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprobObject]


@attrs.frozen
class ChatLogprobs:
    """The tokens of the answer, where `logprobs` asks for them."""

    content: list[LogprobObject]
    refusal: None


@attrs.frozen
class CompletionLogprobsObject:
    """The tokens of the answer, where `logprobs` asks for them."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]
    """Where each token begins in the text, in characters."""


@attrs.frozen
class ChatChoice:
    """One of the `n` answers."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


@attrs.frozen
class PromptTokensDetails:
    """What is known of the tokens of a prompt."""

    cached_tokens: int
    """How many of them came from a cache."""


@attrs.frozen
class CompletionUsage:
    """The number of tokens of a prompt and its answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


@attrs.frozen
class ChatCompletion:
    """The body of a whole answer of `POST /v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: CompletionUsage


@attrs.frozen
class CompletionChoice:
    """One of the `n` answers."""

    index: int
    text: str
    logprobs: CompletionLogprobsObject | None
    finish_reason: Literal["stop", "length"]


@attrs.frozen
class Completion:
    """The body of a whole answer of `POST /v1/completions`."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage


@attrs.frozen
class Embedding:
    """The vector of one input: a list of numbers, or 32-bit numbers in little-endian order as Base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


@attrs.frozen
class InputsUsage:
    """The number of tokens of all inputs."""

    prompt_tokens: int
    total_tokens: int


@attrs.frozen
class EmbeddingList:
    """The body of an answer of `POST /v1/embeddings`."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: InputsUsage


@attrs.frozen
class RankedDocument:
    """A document of a call that ranks documents."""

    text: str


@attrs.frozen
class RankedItem:
    """One document, and how well it answers the query."""

    index: int
    """The place of the document in the call, counted from 0."""
    relevance_score: float
    document: RankedDocument | None = None


@attrs.frozen
class Ranking:
    """The body of an answer of `POST /v1/rerank`."""

    id: str
    object: Literal["list"]
    model: str
    results: list[RankedItem]
    usage: InputsUsage


@attrs.frozen
class Model:
    """A model that clients can use."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    type: Literal["model"]
    display_name: str
    created_at: str
    """The same as `created`, in the form of RFC 3339."""
    lifecycle: Literal["active"]
    state: Literal["starting", "ready", "stalled", "down", "gone", "unloaded", "loading", "failed"]
    detail: str
    ready_in_s: float | None


@attrs.frozen
class ModelList:
    """All models that the caller can use."""

    object: Literal["list"]
    data: list[Model]
    first_id: str | None
    last_id: str | None
    has_more: Literal[False]


@attrs.frozen
class OutputText:
    """The text that the model generated."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[LogprobObject]


@attrs.frozen
class OutputMessage:
    """The one item of a response's output."""

    id: str
    type: Literal["message"]
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"]
    content: list[OutputText]


@attrs.frozen
class DeletedResponse:
    """The body of the answer to a deletion."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


@attrs.frozen
class InputItems:
    """One page of the items that a response was made from."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


@attrs.frozen
class ResponseUsage:
    """The number of tokens of the response."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


@attrs.frozen
class ResponseObject:
    """A response as it is now. The response also has the parameters of the request that created the response."""

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
