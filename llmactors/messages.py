"""The frozen messages that all parts share: the request of a client, and the entries of a request's log."""

import operator
import struct
from collections.abc import Iterator, Sequence
from typing import Literal

import attrs
import msgspec

from llmactors.prices import Price

FinishReason = Literal["stop", "length", "cancelled"]

OPTIONAL_FIELDS = (
    "prompt_ids",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "ignore_eos",
    "top_k",
    "min_p",
    "repeat_penalty",
    "min_tokens",
    "constraint",
    "tools",
    "response_format",
    "top_logprobs",
    "reasoning_effort",
    "inputs",
    "dimensions",
    "query",
)
"""Fields of a request that not every backend honours. A request that uses one goes only to a backend that declares the
field in `Capabilities.honours`."""

DEFAULTABLE = ("temperature", "top_p")
"""The fields of a request that have a value of the API's own where the client gives none."""

CLIENT_FIELDS = {
    "constraint": "response_format",
    "images": "messages",
    "image_links": "messages",
    "prompt_ids": "prompt",
    "top_logprobs": "logprobs",
}
"""The names of optional fields in the bodies of most clients, where the names differ. A refusal names the field that
the client sent."""

NO_THINKING = ("none", "minimal")
"""The values of `reasoning_effort` with which a model answers at once."""


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call of a tool in a conversation, as the model made the call."""

    id: str
    name: str
    arguments: str
    """The arguments as the text of a JSON object."""


class Image(msgspec.Struct, frozen=True, omit_defaults=True):
    """An image in a turn of a conversation. Only backends decode an image, and no part of the platform fetches one."""

    url: str
    """The image as a `data:` URL, or the `http` or `https` URL from which the backend fetches the image."""
    at: int
    """The number of characters of the turn's text that stand before the image."""
    detail: str = ""
    """How closely the model looks at the image, in a word of OpenAI's API; empty for the model's own choice."""

    @property
    def is_link(self) -> bool:
        """Whether the backend has to fetch the image."""
        return not self.url.startswith("data:")


class ChatMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation."""

    role: str
    """`system`, `user`, `assistant`, or `tool` for the result of a tool."""
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls that an assistant's turn made, after its text."""
    tool_call_id: str = ""
    """The call that a tool's turn answers."""
    images: tuple[Image, ...] = ()
    """The images of a user's turn, in their order."""

    @property
    def parts(self) -> Iterator[str | Image]:
        """The text and the images in the order in which the client sent them, without empty texts."""
        begun = 0
        for image in self.images:
            if image.at > begun:
                yield self.content[begun : image.at]
            yield image
            begun = image.at
        if begun < len(self.content):
            yield self.content[begun:]


class Constraint(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the text of an answer must follow. The gateway fixes the constraint when it admits the request."""

    grammar: str
    """A grammar in llama.cpp's GBNF, whose rule `root` describes the whole answer, or the answer from `trigger` on."""
    trigger: str = ""
    """The text from whose first character on the grammar holds. The answer is free before, and need not contain the
    text. Empty: the grammar holds from the beginning."""


class ToolUse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The tools that a request offers to the model."""

    definitions: str
    """The tools as the text of a JSON array, in the form of OpenAI's chat API, which chat templates read."""
    format: str
    """The name of the form in which the model writes its calls: `hermes`, `llama3`, `mistral`; or `openai`, where
    another server reads the calls."""
    parallel: bool = True
    """Whether the model may make several calls in one answer."""
    choice: str = ""
    """Which tools are to be called, as the text of a JSON value in the form of OpenAI's chat API, for backends that
    pass requests on to other servers. Empty: the model may choose. Other backends follow the constraint."""


class ReasoningTags(msgspec.Struct, frozen=True, omit_defaults=True):
    """The tags between which a model writes its reasoning, before its answer."""

    open: str
    close: str
    begun: bool = False
    """Whether the chat template writes the first tag, so that the answer begins inside of the reasoning."""


class TraceContext(msgspec.Struct, frozen=True, omit_defaults=True):
    """The trace that a request belongs to."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """The gateway's span of the call, as 16 hexadecimal digits."""
    state: str = ""
    """The caller's `tracestate`."""
    sampled: bool = True
    """Whether the trace is recorded. A trace that is not recorded is only told to upstreams, so that they record
    nothing of it either."""


@attrs.frozen
class GenerateRequest:
    """One request. Submitting an equal request again is a duplicate; another request of the same id is a conflict."""

    id: str
    """The id of the request and of its stream. The gateway draws the id, and nobody can guess it."""
    model: str
    prompt: str
    max_tokens: int = 64
    temperature: float = 0.7
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    raw: bool = False
    """Whether the model gets the prompt as it is. Otherwise the prompt is a user message in the chat template."""
    messages: tuple[ChatMessage, ...] = ()
    """A conversation, which goes through the model's chat template. `prompt` is empty then."""
    tenant: str = "anonymous"
    """The owner of the request: only this tenant may follow or cancel the request."""
    priority: int = 1
    """The class of the request: class 0 is served before class 1, and class 1 before class 2."""
    weight: float = 1.0
    """The tenant's share of its class, above 0. While two tenants wait, weight 2 gets twice the tokens of weight 1."""
    deadline_ms: int | None = None
    """When the request expires, in milliseconds since 1970 by the ledger's clock. None: at no set time."""
    timeout_ms: int | None = None
    """How long after its admission the request expires, in milliseconds; the earlier of this and `deadline_ms` holds.
    The ledger counts the time, so that the clock of the machine that admits the request does not matter."""
    resume_grace_ms: int = 10_000
    """How long the request runs without a reader before the ledger cancels the request, in milliseconds."""
    retention_ms: int | None = None
    """How long the log can be read after the end, in milliseconds; None for the ledger's own `retention_s`."""
    created_ms: int | None = None
    """When the client asked, in milliseconds since 1970. None where no client is told the time."""
    metadata: str = ""
    """What an API family stores with the request for other gateways, in an encoding of its own."""
    choices: int = 1
    """The number of requests created by the same API call (`n`). A repeated call has to ask for as many."""
    max_tokens_fit: bool = False
    """Whether `max_tokens` is lowered to what the context leaves. Otherwise a request that does not fit is refused."""
    prompt_ids: tuple[int, ...] = ()
    """The prompt as ids of the model's own tokens. `prompt` and `messages` are empty then."""
    frequency_penalty: float = 0.0
    """Lowers the logit of a token by this for each time that prompt and answer so far contain the token."""
    presence_penalty: float = 0.0
    """Lowers the logit of each token that prompt or answer so far contain by this, once."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Pairs of a token's id and what is added to its logit, in ascending order of the ids."""

    ignore_eos: bool = False
    """Whether the answer goes on to `max_tokens`, as load generators want it."""
    top_k: int = 0
    """Only this many of the most probable tokens may be drawn. 0: all."""
    min_p: float = 0.0
    """Only tokens whose probability is at least this share of the highest probability may be drawn."""
    repeat_penalty: float = 1.0
    """Divides the logit of each token that prompt or answer so far contain by this, if the logit is positive."""
    min_tokens: int = 0
    """The answer does not end before this many tokens."""
    constraint: Constraint | None = None
    """What the text of the answer must follow."""
    tools: ToolUse | None = None
    """The tools that the prompt offers to the model."""
    response_format: str = ""
    """The form of the answer's text, as the text of a JSON object in the form of OpenAI's chat API, for backends that
    pass requests on to other servers. Other backends follow the constraint."""
    top_logprobs: int | None = None
    """How many of the most probable tokens are logged with their probabilities, beside the token itself; None for no
    probabilities at all."""
    reasoning_effort: str = ""
    """How long the model thinks before it answers, in a word that its chat template knows."""
    reasoning_tags: ReasoningTags | None = None
    """How a reader of the log finds the reasoning. The gateway takes the tags from what the backend declares."""
    inputs: tuple[str | tuple[int, ...], ...] = ()
    """Texts, or lists of token ids, of which the request asks for vectors in place of an answer. The log gets one token
    for each input, in their order, whose `TokenExtra.embedding` is the vector of the input. `max_tokens` is their
    number, and `prompt`, `messages` and `prompt_ids` are empty then."""
    dimensions: int = 0
    """The length of each vector; 0 for the model's own."""
    query: str | None = None
    """A text of which the request asks how well each of `inputs` answers it, in place of vectors. The inputs are texts
    then, and the token of an input has a `TokenExtra.score`. None: the request asks for no scores."""

    defaulted: tuple[str, ...] = ()
    """The fields of `DEFAULTABLE` that the client did not give, in ascending order: their values are those of the API.
    A backend that passes requests on to another server leaves these fields out."""
    conversation: str = ""
    """A key of the conversation that the request belongs to, as 16 hexadecimal digits; empty where none is known. The
    gateway makes the key when it admits the request."""
    follows_up: bool = False
    """Whether a worker may have the beginning of the conversation in its cache, from an earlier request. The request
    then prefers that worker for a moment."""
    key_id: str = ""
    """The id of the API key that sent the request, for the record of usage; empty for no key of a store."""
    price: Price | None = None
    """What the tokens of the request cost, as of its admission; None where the model has no price."""
    trace: TraceContext | None = None
    """The trace that the spans of the request's claims belong to. None: its gateway exports no traces."""

    def paid_by(self, key_id: str, price: Price | None) -> "GenerateRequest":
        """This request with another key and price. `attrs.evolve` takes three times as long."""
        if key_id == self.key_id and price == self.price:
            return self
        values = list(_VALUES(self))
        values[_KEY_ID], values[_PRICE] = key_id, price
        return GenerateRequest(*values)

    @property
    def text(self) -> str:
        """The whole prompt as one text, for backends without a chat template. Token ids are written as numbers."""
        if self.query is not None:
            return "\n".join((self.query, *map(str, self.inputs)))
        if self.inputs:
            return "\n".join(each if isinstance(each, str) else " ".join(map(str, each)) for each in self.inputs)
        text = self.prompt or " ".join(map(str, self.prompt_ids))
        return text or "\n".join(f"{message.role}: {message.content}" for message in self.messages)

    @property
    def demands(self) -> frozenset[str]:
        """The names of the fields in `OPTIONAL_FIELDS` that the request uses, `images` where its messages have images,
        and `image_links` where the backend would have to fetch an image. Mostly empty. A request for scores uses
        `query`, and not `inputs`, which stands for vectors.
        """
        used = {name for name, default in _DEFAULTS if getattr(self, name) != default}
        if self.query is not None:
            used.discard("inputs")
        for message in self.messages:
            if message.images:
                used.add("images")
                if any(image.is_link for image in message.images):
                    used.add("image_links")
        return frozenset(used)

    @property
    def given(self) -> frozenset[str]:
        """The fields that every backend honours, and that the client gave all the same."""
        given = {name for name in DEFAULTABLE if name not in self.defaulted}
        return frozenset(given if self.seed is None else {*given, "seed"})


_NAMES = tuple(each.name for each in attrs.fields(GenerateRequest))
_VALUES = operator.attrgetter(*_NAMES)
_KEY_ID, _PRICE = _NAMES.index("key_id"), _NAMES.index("price")
_DEFAULTS = tuple((name, getattr(attrs.fields(GenerateRequest), name).default) for name in OPTIONAL_FIELDS)


class TopLogprob(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One of the most probable tokens at a place of an answer."""

    token: int
    """The model's id of the token; -1 where an upstream gives no ids."""
    utf8: bytes
    """The text of the token, which may be a part of a character."""
    logprob: float
    """The natural logarithm of the probability."""


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How probable a token of an answer was, before the temperature and all other sampling rules."""

    utf8: bytes
    """The text of the token. The text of a `TokenDelta` may differ: that text has whole characters only, and lacks what
    may be a stop string."""
    logprob: float
    top: tuple[TopLogprob, ...] = ()
    """The most probable tokens at this place, as many as the request asks for, the most probable one first."""


class ToolCallDelta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A part of a tool call that an upstream has parsed already."""

    index: int
    """The place of the call among the calls of the answer, counted from 0."""
    id: str = ""
    """The upstream's id of the call, in the first part of each call; empty in other parts."""
    name: str = ""
    """The name of the tool, in the first part of each call; empty in other parts."""
    arguments: str = ""
    """What the part adds to the text of the arguments."""


class PromptTokens(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The prompt of an answer as token ids, so that another server goes on with the answer without the chat template.

    Raises `ValueError` from `of` for an id that 32 bits do not hold.
    """

    data: bytes
    """The ids as unsigned 32-bit numbers in little-endian order."""
    vocabulary: str
    """The fingerprint of the vocabulary that the ids belong to: no other vocabulary may read them."""

    @classmethod
    def of(cls, ids: Sequence[int], vocabulary: str) -> "PromptTokens":
        """Packs the ids."""
        try:
            return cls(struct.pack(f"<{len(ids)}I", *ids), vocabulary)
        except struct.error as error:
            raise ValueError("a token id is below 0 or above 32 bits") from error

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids."""
        return struct.unpack(f"<{len(self.data) // 4}I", self.data)


class TokenExtra(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a token of a log carries beside its text. Most tokens have no extra.

    Only the text of a `TokenDelta` may hold parts of surrogate pairs. Such a part in an extra becomes a question mark
    where a ledger writes bytes.
    """

    logprob: TokenLogprob | None = None
    reasoning: str = ""
    """Text that an upstream marked as reasoning. The text is not part of the answer."""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    stop: str = ""
    """The stop string that ended the answer, on the token that completed the stop string. An upstream may not say."""
    embedding: bytes = b""
    """A vector, as 32-bit floating-point numbers in little-endian order."""
    score: float | None = None
    """How well an input answers the query of a request for scores; a higher score is better. Each model has a scale of
    its own."""
    model: str = ""
    """The name of the model that makes the answer, on the first token, where another server makes the answer and calls
    the model otherwise than the request does."""
    prompt: PromptTokens | None = None
    """The prompt as token ids, on the first token of an answer whose upstream works with token ids. No client gets the
    ids."""

    @property
    def size_bytes(self) -> int:
        """About how much memory the extra takes."""
        size = 150 + len(self.reasoning) + len(self.stop) + len(self.embedding) + len(self.model)
        if self.prompt is not None:
            size += 150 + len(self.prompt.data)
        if self.logprob is not None:
            size += 150 + 150 * len(self.logprob.top)
        for call in self.tool_calls:
            size += 200 + len(call.arguments)
        return size


class TokenDelta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One token of an answer. The token's `seq` is its place in the log, counted from 1, and is not stored here.

    A msgspec structure is made in a fifth of the time of an attrs class, and the garbage collector ignores it.
    """

    token: int
    """The model's id of the token. A takeover continues from the ids in the log. -1 where an upstream gives no ids."""
    text: str
    """The text that the token adds. Empty while a character or a possible stop string is incomplete."""
    extra: TokenExtra | None = None


@attrs.frozen
class Usage:
    """The tokens of one request."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """How many tokens of the prompt the backend read from its cache, in the attempt that ended the answer; 0 where the
    backend does not say."""

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@attrs.frozen
class Finished:
    """The terminal event of a complete answer, or of a cancelled request."""

    reason: FinishReason
    usage: Usage


@attrs.frozen
class Failed:
    """The terminal event of an answer that failed. `code` is one of `errors.STREAM_CODES`."""

    code: str
    message: str
    usage: Usage | None = None


Terminal = Finished | Failed
