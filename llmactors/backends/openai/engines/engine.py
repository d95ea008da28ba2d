"""What a server offers that works with token ids."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from llmactors.backends.openai.responses.chunk_body import BadChunk, TokenId
from llmactors.backends.openai.responses.chunks import Chunk
from llmactors.backends.openai.routing.faults import FaultKind, UpstreamFault
from llmactors.errors import BackendFailed
from llmactors.messages import Constraint, GenerateRequest

Body = dict[str, Any]
T = TypeVar("T")


class Calls(Protocol):
    """Sends requests to one upstream, and reads whole responses."""

    async def fetch(self, route: str, body: Body | None) -> bytes:
        """The body of a response with the status 200. Without a body in JSON the method is GET. Raises `UpstreamFault`.

        A route that begins with a slash is one of the server, and any other one belongs to its OpenAI API.
        """
        ...


class Reader(Protocol):
    """Reads the stream of one answer."""

    fault: BadChunk | None
    """What the next call of `feed` or `feed_eof` raises, after the chunks that were returned last."""

    def feed(self, data: bytes) -> list[Chunk]:
        """Returns the chunks that `data` completes. Raises `BadChunk`."""
        ...

    def feed_eof(self) -> list[Chunk]:
        """Takes the orderly end of the body, and returns the last chunks. Raises `BadChunk`."""
        ...


class TokenServer(Protocol):
    """One kind of server."""

    sends_ids: bool
    """Whether the routes of OpenAI's API send ids, if the body has `return_token_ids`."""

    async def splits_reasoning(self, calls: Calls) -> bool:
        """Whether the chat route takes reasoning out of the text, which the route for ids leaves in the text.

        Raises `UpstreamFault`.
        """
        ...

    async def tokenize(self, calls: Calls, model: str, text: str) -> tuple[int, ...]:
        """The ids of a text, without those that every prompt begins with. Raises `UpstreamFault`."""
        ...

    async def text_of(self, calls: Calls, model: str, ids: Sequence[int]) -> str:
        """The text of ids. An incomplete character at the end is U+FFFD. Raises `UpstreamFault`."""
        ...

    async def prompt_ids(self, calls: Calls, model: str, request: GenerateRequest) -> tuple[int, ...]:
        """The ids of the prompt of a request. Raises `UpstreamFault`."""
        ...

    def generation(
        self, request: GenerateRequest, model: str, ids: Sequence[int], count: int, rest: Body
    ) -> tuple[str, Body]:
        """The route and the body that go on behind ids.

        Args:
            request: The request.
            model: The name of the model at the upstream.
            ids: The ids of the prompt and of the answer so far.
            count: How many of the ids belong to the answer.
            rest: The fields that say what is left of the constraint.
        """
        ...

    def overshot(self, said: str) -> bool:
        """Whether the server gave an answer up because a token went beyond the trigger in a way that is not allowed.

        The grammar has to hold at once then.
        """
        ...

    def reader(self) -> Reader:
        """The reader of one stream of the route in `generation`."""
        ...

    def constraint(self, constraint: Constraint, text: str, *, begins_now: bool) -> tuple[Body, bool]:
        """The fields that say what is left of a constraint behind a text, and whether nothing may follow.

        Takes many milliseconds behind a long text. Raises `Interrupted` where no valid rest is known.

        Args:
            constraint: The constraint of the whole answer.
            text: The answer so far.
            begins_now: Whether the grammar holds from here on, though the text lacks the constraint's trigger.
        """
        ...


class Tokens(msgspec.Struct):
    """The response of a route that makes ids of a text."""

    tokens: tuple[TokenId, ...]


def decode(data: bytes, kind: type[T]) -> T:
    """Reads a response. Raises `UpstreamFault`."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        text = "the upstream's response is not of its engine's form"
        raise UpstreamFault(FaultKind.MALFORMED, BackendFailed(text)) from error
