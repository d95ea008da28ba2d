"""The client of llama.cpp's HTTP server: https://github.com/ggml-org/llama.cpp/tree/master/tools/server."""

import base64
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import attrs
import msgspec

from llmactors.backends.llama.answer import CompletionEvent
from llmactors.backends.llama.conversation import Conversation
from llmactors.errors import BackendFailed, ContextExceeded, InvalidRequest
from llmactors.http.client import ClientSettings, HttpClient
from llmactors.http.client_errors import BadResponse, ConnectionCut
from llmactors.http.client_response import ClientResponse
from llmactors.http.sse_reader import BadEventStream, SseEvent, SseReader
from llmactors.messages import TokenLogprob, TopLogprob

_MARGIN = 16
"""An upper bound on the tokens that a vocabulary puts around a text."""
_IMAGE_TOKENS = 1000
"""As how many tokens an image counts before llama.cpp has counted: about as long the projector and the model take."""
_FIELDS = ("content", "tokens", "tokens_predicted", "tokens_evaluated", "stop", "stop_type")
_PROBABILITIES = "completion_probabilities"


class _Probable(msgspec.Struct):
    id: int
    bytes: list[int]
    logprob: float


class _Probability(msgspec.Struct):
    bytes: list[int]
    logprob: float
    top_logprobs: list[_Probable] = []


class _Event(msgspec.Struct):
    content: str = ""
    tokens: list[int] = []
    tokens_predicted: int = 0
    tokens_evaluated: int = 0
    stop: bool = False
    stop_type: str = "none"
    error: dict[str, Any] | None = None
    prompt_progress: dict[str, Any] | None = None
    completion_probabilities: list[_Probability] | None = None


class _Settings(msgspec.Struct):
    n_ctx: int


class _Abilities(msgspec.Struct, frozen=True):
    supports_tools: bool = False
    supports_tool_calls: bool = False


class _Props(msgspec.Struct):
    default_generation_settings: _Settings
    chat_template: str = ""
    chat_template_caps: _Abilities = _Abilities()


class _Tokens(msgspec.Struct):
    tokens: list[int]


class _Piece(msgspec.Struct):
    id: int
    piece: str | list[int]


class _Pieces(msgspec.Struct):
    tokens: list[_Piece]


class _Vector(msgspec.Struct):
    embedding: str


class _Vectors(msgspec.Struct):
    data: tuple[_Vector]


class _Score(msgspec.Struct):
    relevance_score: float


class _Scores(msgspec.Struct):
    results: tuple[_Score]


class _Prompt(msgspec.Struct):
    prompt: str


class ImagePrompt(msgspec.Struct, frozen=True):
    """A prompt with images, as llama.cpp's server takes it."""

    prompt_string: str
    """The text, with llama.cpp's mark at the place of each image."""
    multimodal_data: tuple[str, ...]
    """The images in base64, in their order."""


AnyPrompt = Sequence[int] | str | ImagePrompt
"""What llama.cpp takes as a prompt: token ids, a text, or a text with images."""


@attrs.frozen
class ServedProperties:
    """What llama.cpp says of a model."""

    context_tokens: int
    """The context of each slot, in tokens."""
    template: str
    """The chat template; empty for a model without one."""
    renders_tools: bool
    """Whether the template renders tools, and calls of them."""


T = TypeVar("T")
_event = msgspec.json.Decoder(_Event)


class CompletionStream:
    """One answer that is being streamed. Closing the stream makes llama.cpp stop."""

    def __init__(self, response: ClientResponse, images: int = 0) -> None:
        self._response = response
        self._images = images
        self._events = SseReader()
        self._ahead: list[_Event] = []
        self.prompt_tokens = 0
        """The length of the prompt."""
        self.unread = 0
        """The length of the prompt until the first token has come, then 0. Each image adds tokens for the time that its
        projector takes."""
        self.cached_tokens = 0
        """How many tokens of the prompt llama.cpp reads from its cache."""

    async def begin(self) -> None:
        """Waits for the first event, which llama.cpp sends before it reads any of the prompt. Raises as `next`."""
        if self._response.status != HTTPStatus.OK:
            raise _refusal(self._response.status, await self._response.read())
        self._ahead = await self._receive()
        if not self._ahead:
            raise ConnectionCut("llama.cpp ended a stream without an event", begun=True)
        first = self._ahead[0]
        self.prompt_tokens = first.tokens_evaluated
        self.unread = first.tokens_evaluated + self._images * _IMAGE_TOKENS
        self.cached_tokens = (first.prompt_progress or {}).get("cache", 0)

    async def next(self) -> list[CompletionEvent]:
        """Waits for the next events, of which those about the prompt have no tokens; none at the end.

        Raises:
            BackendFailed: llama.cpp gave this request up.
            HttpClientError: The connection broke, or the stream is malformed.
        """
        events, self._ahead = self._ahead or await self._receive(), []
        if any(event.tokens_predicted for event in events):
            self.unread = 0
        return [_completion_event(event) for event in events]

    def close(self) -> None:
        """Never waits."""
        self._response.close()

    async def _receive(self) -> list[_Event]:
        while data := await self._response.receive():
            try:
                found = self._events.feed(data)
            except BadEventStream as error:
                raise BadResponse(str(error)) from error
            if found:
                return [_parse(event) for event in found]
        return []


class LlamaClient:
    """A client of one child's server. Raises `HttpClientError` where the child does not answer.

    There are no deadlines for reading: the heartbeat distinguishes a long prompt from a hang. No connection is used
    twice: llama.cpp closes idle ones after five seconds, and a POST that meets this moment fails.
    """

    def __init__(self, base_url: str, api_key: str) -> None:
        headers = [("Authorization", f"Bearer {api_key}"), ("Content-Type", "application/json")]
        self.url = base_url
        self._http = HttpClient(base_url, headers=headers, settings=ClientSettings(max_idle=0))

    def __repr__(self) -> str:
        return f"<LlamaClient {self._http!r}>"

    async def health(self) -> None:
        """Returns when the server answers its health check."""
        await self._call("GET", "/health")

    async def properties(self) -> ServedProperties:
        """What llama.cpp says of the model."""
        props = await self._get("/props", _Props)
        abilities = props.chat_template_caps
        return ServedProperties(
            props.default_generation_settings.n_ctx,
            props.chat_template,
            renders_tools=abilities.supports_tools and abilities.supports_tool_calls,
        )

    async def apply_template(self, talk: Conversation) -> str:
        """The text of a conversation in the form that the model was trained on."""
        return (await self._post("/apply-template", talk.body, _Prompt)).prompt

    async def tokenize(self, text: str, *, parse_special: bool = True, add_special: bool = True) -> list[int]:
        """The token ids of `text`.

        Args:
            text: What to tokenize.
            parse_special: Whether the names of control tokens in `text` become control tokens.
            add_special: Whether the tokens that every prompt of the model begins with are added.
        """
        body = {"content": text, "add_special": add_special, "parse_special": parse_special}
        return (await self._post("/tokenize", body, _Tokens)).tokens

    async def pieces(self, text: str) -> list[tuple[int, bytes]]:
        """The token ids of `text`, each with its bytes."""
        found = await self._post("/tokenize", {"content": text, "with_pieces": True}, _Pieces)
        return [
            (one.id, one.piece.encode() if isinstance(one.piece, str) else bytes(one.piece)) for one in found.tokens
        ]

    async def stream(self, prompt: AnyPrompt, count: int, sampling: dict[str, Any], *, cache: bool) -> CompletionStream:
        """Begins to make up to `count` tokens behind `prompt`. The caller closes the stream."""
        # Only when llama.cpp reports its progress does it notice between two steps of a prompt that the client is gone.
        body = _completion(prompt, count, sampling, cache=cache) | {"stream": True, "return_progress": True}
        response = await self._http.open("POST", "/completion", msgspec.json.encode(body))
        images = len(prompt.multimodal_data) if isinstance(prompt, ImagePrompt) else 0
        stream = CompletionStream(response, images)
        try:
            await stream.begin()
        except BaseException:
            stream.close()
            raise
        return stream

    async def complete(
        self, prompt: AnyPrompt, count: int, sampling: dict[str, Any], *, cache: bool
    ) -> tuple[list[int], bool]:
        """Makes up to `count` tokens behind `prompt` in one response; True where the last one ends the answer."""
        body = _completion(prompt, count, sampling, cache=cache)
        event = await self._post("/completion", body, _Event)
        return event.tokens, event.stop_type == "eos"

    async def embed(self, ids: Sequence[int]) -> bytes:
        """The vector of one input, of length 1, as 32-bit numbers in little-endian order."""
        body = {"input": ids, "encoding_format": "base64"}
        [vector] = (await self._post("/v1/embeddings", body, _Vectors)).data
        return base64.b64decode(vector.embedding)

    async def rank(self, query: str, document: str) -> float:
        """How well a document answers a query, as a model that ranks documents says; a higher score is better."""
        body = {"query": query, "documents": [document]}
        [score] = (await self._post("/v1/rerank", body, _Scores)).results
        return score.relevance_score

    async def ends_answers(self, token: int) -> bool:
        """Whether the model ends its answers with `token`."""
        forced = {"samplers": ["top_k"], "top_k": 1, "logit_bias": [[token, 1e6]]}
        _, ended = await self.complete([token], 1, forced, cache=False)
        return ended

    async def _get(self, path: str, kind: type[T]) -> T:
        return msgspec.json.decode(await self._call("GET", path), type=kind)

    async def _post(self, path: str, body: dict[str, Any], kind: type[T]) -> T:
        return msgspec.json.decode(await self._call("POST", path, msgspec.json.encode(body)), type=kind)

    async def _call(self, method: str, path: str, body: bytes = b"") -> bytes:
        response = await self._http.fetch(method, path, body)
        if response.status != HTTPStatus.OK:
            raise _refusal(response.status, response.body)
        return response.body


def _completion(prompt: AnyPrompt, count: int, sampling: dict[str, Any], *, cache: bool) -> dict[str, Any]:
    # Without stop strings: llama.cpp would send no event for a token that might belong to one.
    fixed = {"prompt": prompt, "n_predict": count, "cache_prompt": cache, "return_tokens": True}
    # Penalties look at the whole text, so that they weigh the same after a takeover.
    fields = (*_FIELDS, _PROBABILITIES) if "n_probs" in sampling else _FIELDS
    return fixed | {"response_fields": fields, "repeat_last_n": at_most(prompt) + count} | sampling


def at_most(prompt: AnyPrompt) -> int:
    """How many tokens a prompt has at most: each token of a text stands for at least one byte.

    For a prompt with images this is an estimate, since each projector makes another number of tokens.
    """
    if isinstance(prompt, ImagePrompt):
        return at_most(prompt.prompt_string) + len(prompt.multimodal_data) * _IMAGE_TOKENS
    return len(prompt.encode()) + _MARGIN if isinstance(prompt, str) else len(prompt)


def _parse(event: SseEvent) -> _Event:
    found = _event.decode(event.data)
    if event.name == "error" and found.error is None:
        return _Event(error=msgspec.json.decode(event.data))
    return found


def _completion_event(event: _Event) -> CompletionEvent:
    if event.error is not None:
        raise BackendFailed(f"llama.cpp gave the request up: {event.error.get('message', 'no reason given')}")
    if event.prompt_progress is not None:
        return CompletionEvent("", (), 0)  # its `tokens` hold a zero that is no token
    ended = event.stop_type if event.stop else None
    probabilities = event.completion_probabilities
    logprob = None if not probabilities or event.stop else _logprob(probabilities[-1])
    return CompletionEvent(event.content, event.tokens, event.tokens_predicted, ended, logprob)


def _logprob(found: _Probability) -> TokenLogprob:
    top = (TopLogprob(one.id, bytes(one.bytes), one.logprob) for one in found.top_logprobs)
    return TokenLogprob(bytes(found.bytes), found.logprob, tuple(top))


def _refusal(status: int, body: bytes) -> InvalidRequest | BackendFailed:
    try:
        error = msgspec.json.decode(body, type=_Event).error or {}
    except msgspec.MsgspecError:
        error = {}
    said = str(error.get("message", "no reason given"))
    if error.get("type") == "exceed_context_size_error":
        # Only a prompt with images: the tokens of all others are counted before.
        return ContextExceeded(
            f"the prompt has {error.get('n_prompt_tokens')} tokens, and this model's maximum context length is "
            f"{error.get('n_ctx')} tokens, prompt and answer together"
        )
    if status == HTTPStatus.BAD_REQUEST:
        return InvalidRequest(f"llama.cpp refuses the request: {said}")
    return BackendFailed(f"llama.cpp answered {status}: {said}")
