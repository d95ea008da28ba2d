"""llama.cpp's own server: https://github.com/ggml-org/llama.cpp/tree/master/tools/server.

Its routes of OpenAI's API send no ids. So a chat is rendered at `/apply-template`, its ids are asked for at
`/tokenize`, and `/completion` makes the answer. An event has the text of several tokens, but only the id of the last
one, where the others end inside of a character. Such an id is unknown, and a takeover asks for the ids of the text.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from llmactors.backends.llama.constrained import overshot_trigger, rest_of_constraint, whole_constraint
from llmactors.backends.llama.conversation import conversation
from llmactors.backends.llama.sampling import sampling_of
from llmactors.backends.openai.engines.engine import Body, Calls, Reader, Tokens, decode
from llmactors.backends.openai.requests.body import is_raw
from llmactors.backends.openai.responses.chunk_body import TokenId
from llmactors.backends.openai.responses.chunks import NO_TOKEN, BadChunk, Chunk, as_error
from llmactors.http.sse_reader import SseReader
from llmactors.messages import ChatMessage, Constraint, GenerateRequest, TokenLogprob, TopLogprob

_FIELDS = ("content", "tokens", "tokens_predicted", "tokens_evaluated", "stop", "stop_type")
_PROBABILITIES = "completion_probabilities"
_END_OF_REASONING = "</think>"
_MOST_MISSING = 65_536
"""How many tokens an event may count of which the stream has no ids."""


class _Props(msgspec.Struct):
    chat_template: str = ""


class _Rendered(msgspec.Struct):
    prompt: str


class _Top(msgspec.Struct):
    id: TokenId
    bytes: list[int]
    logprob: float


class _Probability(msgspec.Struct):
    bytes: list[int]
    logprob: float
    top_logprobs: list[_Top] = []


class _Event(msgspec.Struct):
    content: str = ""
    tokens: list[TokenId] = []
    tokens_predicted: int = 0
    tokens_evaluated: int = 0
    stop: bool = False
    stop_type: str = "none"
    error: Any = None
    prompt_progress: dict[str, Any] | None = None
    completion_probabilities: list[_Probability] | None = None


class _Text(msgspec.Struct):
    content: str


class LlamaCpp:
    """A `TokenServer`."""

    sends_ids = False

    async def splits_reasoning(self, calls: Calls) -> bool:
        """Whether the chat template knows reasoning. Raises `UpstreamFault`."""
        return _END_OF_REASONING in decode(await calls.fetch("/props", None), _Props).chat_template

    async def tokenize(self, calls: Calls, model: str, text: str) -> tuple[int, ...]:  # noqa: ARG002
        """The ids of a text. Raises `UpstreamFault`."""
        body = {"content": text, "add_special": False, "parse_special": False}
        return decode(await calls.fetch("/tokenize", body), Tokens).tokens

    async def text_of(self, calls: Calls, model: str, ids: Sequence[int]) -> str:  # noqa: ARG002
        """The text of ids. Raises `UpstreamFault`."""
        return decode(await calls.fetch("/detokenize", {"tokens": ids}), _Text).content

    async def prompt_ids(self, calls: Calls, model: str, request: GenerateRequest) -> tuple[int, ...]:  # noqa: ARG002
        """The ids of the prompt of a request. Raises `UpstreamFault`."""
        if request.prompt_ids:
            return request.prompt_ids
        text = request.prompt
        if not is_raw(request):
            messages = request.messages or (ChatMessage("user", request.prompt),)
            tools = request.tools.definitions if request.tools else ""
            talk = conversation(messages, tools, request.reasoning_effort)
            text = decode(await calls.fetch("/apply-template", talk.body), _Rendered).prompt
        body = {"content": text, "add_special": True, "parse_special": True}
        return decode(await calls.fetch("/tokenize", body), Tokens).tokens

    def generation(
        self,
        request: GenerateRequest,
        model: str,
        ids: Sequence[int],
        count: int,
        rest: Body,
    ) -> tuple[str, Body]:
        """The route and the body that go on behind ids."""
        sampling = sampling_of(request, position=count)
        if request.temperature > 0:
            sampling = {name: value for name, value in sampling.items() if name not in request.defaulted}
        fields = (*_FIELDS, _PROBABILITIES) if "n_probs" in sampling else _FIELDS
        body = {"model": model, "prompt": ids, "n_predict": request.max_tokens - count, "stream": True}
        # Penalties look at the whole text, so that they weigh the same after a takeover.
        body |= {"repeat_last_n": len(ids) + request.max_tokens - count}
        # llama.cpp notices a closed connection while it reads a prompt only if it reports its progress.
        body |= {"return_progress": True}
        return "/completion", body | {"return_tokens": True, "response_fields": fields} | sampling | rest

    def overshot(self, said: str) -> bool:
        """Whether the server gave an answer up at its trigger."""
        return overshot_trigger(said)

    def reader(self) -> Reader:
        """The reader of one stream."""
        return CompletionReader()

    def constraint(self, constraint: Constraint, text: str, *, begins_now: bool) -> tuple[Body, bool]:
        """The fields of what is left of a constraint. Raises `Interrupted`."""
        if not text and not begins_now:
            return whole_constraint(constraint), False
        rest = rest_of_constraint(constraint, text.encode("utf-8", "replace"), begins_now=begins_now)
        return rest.fields, rest.is_complete


class CompletionReader:
    """The reader of one stream of `/completion`."""

    def __init__(self) -> None:
        self._events = SseReader()
        self._predicted = 0
        self.fault: BadChunk | None = None

    def __repr__(self) -> str:
        return f"<CompletionReader after {self._predicted} tokens>"

    def feed(self, data: bytes) -> list[Chunk]:
        """Returns the chunks that `data` completes. Raises `BadChunk`."""
        try:
            return [self._chunk(event.data, event.name) for event in self._events.feed(data)]
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise BadChunk(f"an event is not of the form of llama.cpp's: {error}") from error

    def feed_eof(self) -> list[Chunk]:
        """The end of the body brings no chunk."""
        return []

    def _chunk(self, payload: bytes, name: str) -> Chunk:
        if name == "error":
            return Chunk(error=as_error(msgspec.json.decode(payload)))
        event = msgspec.json.decode(payload, type=_Event)
        if event.error:
            return Chunk(error=as_error(event.error))
        if event.prompt_progress is not None:  # its `tokens` hold a zero that is no token
            cached = event.prompt_progress.get("cache", 0)
            return Chunk(cached_tokens=cached if isinstance(cached, int) else 0)
        missing = max(0, event.tokens_predicted - self._predicted - len(event.tokens))
        if missing > _MOST_MISSING:
            raise BadChunk(f"an event counts {missing} tokens without ids; at most {_MOST_MISSING} are taken")
        self._predicted = max(self._predicted, event.tokens_predicted)
        if event.stop:
            finish = "length" if event.stop_type == "limit" else "stop"
            # The token that ends the answer has no text, and no event of its own.
            ids = (NO_TOKEN,) * missing + tuple(event.tokens)
            return Chunk(event.content, finish, event.tokens_evaluated, event.tokens_predicted, done=True, ids=ids)
        ids = (NO_TOKEN,) * missing + tuple(event.tokens)
        logprobs = _logprobs(event.completion_probabilities or [], missing)
        return Chunk(event.content, None, event.tokens_evaluated, None, logprobs=logprobs, ids=ids)


def _logprobs(found: Sequence[_Probability], missing: int) -> tuple[TokenLogprob, ...]:
    if not found or missing:
        return ()
    return tuple(
        TokenLogprob(
            bytes(one.bytes),
            one.logprob,
            tuple(TopLogprob(top.id, bytes(top.bytes), top.logprob) for top in one.top_logprobs),
        )
        for one in found
    )
