"""The bodies and queries that clients send to `/v1/responses`. Pure.

As on the other OpenAI routes, a field that asks for something that is not served is refused by its name, and unknown
fields are ignored.
"""

import re
from collections.abc import Collection, Sequence
from typing import Annotated, Any
from urllib.parse import parse_qsl

import attrs
import msgspec

from llmactors.gateway.answer_rules import AnswerRules
from llmactors.gateway.body import clipped
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.fields import read_fields
from llmactors.gateway.openai.images import image_names
from llmactors.gateway.openai.messages import MAX_MESSAGES, check_parts, without_empty_answers
from llmactors.gateway.openai.responses.conversation import read_items
from llmactors.gateway.openai.responses.stored import StoredResponse
from llmactors.gateway.openai.responses.tools import read_choice, read_text, read_tools
from llmactors.gateway.openai.schema import (
    DEFAULT_CHAT_TOKENS,
    ChoiceBody,
    CommonBody,
    Count,
    TopLogprobs,
)
from llmactors.gateway.openai.unserved import UNSERVED_OF_RESPONSES
from llmactors.gateway.reasoning_effort import Effort
from llmactors.messages import ChatMessage

_MAX_NUMBER_CHARS = 15
MAX_PAGE = 100
"""The most input items in one answer."""
_LOGPROBS = "message.output_text.logprobs"
_INCLUDED = frozenset({_LOGPROBS, "reasoning.encrypted_content"})
"""The values of `include` that are accepted. A response that was made with log probabilities always shows them, and
reasoning is never encrypted here, so the others change nothing."""

Metadata = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=512)]],
    msgspec.Meta(max_length=16),
]


@attrs.frozen(kw_only=True)
class ReasoningOptions:
    """The field `reasoning`."""

    effort: Effort | None = None
    summary: str | None = None
    """`auto` leaves the choice to the server, and this one makes no summaries."""
    generate_summary: str | None = None
    """An older name of `summary`."""


@attrs.frozen(kw_only=True)
class ResponseBody(CommonBody):
    """The body of `POST /v1/responses`."""

    input: str | list[Any]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    background: bool | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    previous_response_id: str | None = None
    text: dict[str, Any] | None = None
    include: Annotated[list[str], msgspec.Meta(max_length=16)] | None = None
    top_logprobs: TopLogprobs | None = None
    reasoning: ReasoningOptions | None = None

    @property
    def effort(self) -> str:
        """The request's `reasoning_effort`. Raises `InvalidParameter`."""
        if self.reasoning is None:
            return ""
        for name in ("summary", "generate_summary"):
            if getattr(self.reasoning, name) not in {None, "auto"}:
                raise InvalidParameter("reasoning", f"`reasoning.{name}` is not served here; leave it out")
        return self.reasoning.effort or ""

    @property
    def logged_logprobs(self) -> int | None:
        """The request's `top_logprobs`. Raises `InvalidParameter`."""
        return self.top_logprobs or 0 if _LOGPROBS in check_include(self.include or ()) else self.top_logprobs or None

    @property
    def field_names(self) -> dict[str, str]:
        """The names that the client sent for fields of the request, where the names differ."""
        asked = "include" if self.top_logprobs is None else "top_logprobs"
        names = {"top_logprobs": asked, "constraint": "text", "reasoning_effort": "reasoning"}
        return super().field_names | names | image_names("input", self.input)

    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None

    @property
    def rules(self) -> AnswerRules | None:
        """What the client wants of the form of the answer; None for free text. Raises `InvalidParameter`."""
        functions = read_tools(self.tools or ())
        tool_choice = read_choice(self.tool_choice, functions)
        if tool_choice.mode == "none":
            functions = ()  # the model does not see tools that it may not call
        text_format = read_text(self.text or {})
        if not functions and text_format is None:
            return None
        return AnswerRules(functions, tool_choice, self.parallel_tool_calls is not False, text_format)

    @property
    def _repeated(self) -> dict[str, Any]:
        names = ("tools", "tool_choice", "parallel_tool_calls", "text")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def choice(
        self,
        deadline_ms: int | None,
        *,
        background_s: float,
        response_ttl_s: float,
        before: Sequence[ChatMessage] = (),
    ) -> ChoiceBody:
        """The request. Raises `InvalidParameter`.

        Args:
            deadline_ms: As in `GenerateRequest`.
            background_s: How long a background request lives without a reader.
            response_ttl_s: How long a stored response can be read after its end.
            before: The messages of the response that this one continues.
        """
        if self.background and self.store is False:
            raise InvalidParameter(
                "store",
                "`store` cannot be false with `background`: a background response must be stored to be retrieved",
            )
        messages = [*before, *self.messages]
        if len(messages) > MAX_MESSAGES:
            raise InvalidParameter(
                "input",
                f"`input` and the responses before it have {len(messages)} items; at most {MAX_MESSAGES} are accepted",
            )
        if self.instructions:
            messages.insert(0, ChatMessage("system", self.instructions))
        kept = StoredResponse(
            background=bool(self.background),
            store=self.store is not False,
            instructions=bool(self.instructions),
            max_output_tokens=self.max_output_tokens,
            metadata=self.metadata or {},
            previous=self.previous_response_id,
            repeated=self._repeated,
        )
        most = self.max_output_tokens or DEFAULT_CHAT_TOKENS
        fit = self.max_output_tokens is None
        choice = ChoiceBody.of(self, 0, deadline_ms, most, messages=tuple(messages), fit=fit, rules=self.rules)
        return attrs.evolve(
            choice,
            field_names={**choice.field_names, "messages": "input"},
            metadata=kept.encoded,
            grace_s=background_s if self.background else None,
            retention_s=response_ttl_s if kept.store else None,
        )

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """The messages of `input`. Raises `InvalidParameter`."""
        return without_empty_answers("input", self._messages())

    def _messages(self) -> list[ChatMessage]:
        if not self.input:
            raise InvalidParameter("input", "`input` is empty")
        if isinstance(self.input, str):
            return [ChatMessage("user", self.input)]
        if len(self.input) > MAX_MESSAGES:
            raise InvalidParameter("input", f"`input` has {len(self.input)} items; at most {MAX_MESSAGES} are accepted")
        check_parts("input", self.input)
        return read_items(self.input)


@attrs.frozen
class Retrieval:
    """The query of `GET /v1/responses/{id}`."""

    stream: bool = False
    starting_after: int = -1
    """The number of the last event that the client has; -1 if it has none."""


def read_response(fields: dict[str, Any]) -> ResponseBody:
    """The body. Raises `InvalidParameter`, which names the field."""
    return read_fields(fields, ResponseBody, UNSERVED_OF_RESPONSES)


@attrs.frozen
class Page:
    """The query of `GET /v1/responses/{id}/input_items`."""

    limit: int = 20
    newest_first: bool = True
    after: str | None = None
    """The id of the last item that the client has."""


def read_page(query: str) -> Page:
    """The query. Unknown parameters are ignored. Raises `InvalidParameter`."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    limit, order = given.get("limit", "20"), given.get("order", "desc")
    if not re.fullmatch("[0-9]{1,3}", limit) or not 1 <= int(limit) <= MAX_PAGE:
        raise InvalidParameter("limit", f"`limit` must be a whole number from 1 to {MAX_PAGE}")
    if order not in {"asc", "desc"}:
        raise InvalidParameter("order", "`order` must be asc or desc")
    return Page(int(limit), order == "desc", given.get("after"))


def check_include(given: Collection[str]) -> Collection[str]:
    """The value of `include`. Raises `InvalidParameter` for data that a response does not have here."""
    for one in given:
        if one not in _INCLUDED:
            raise InvalidParameter("include", f"`include` is not served here with {clipped(one)}; leave that value out")
    return given


def read_query(query: str) -> Retrieval:
    """The query. Unknown parameters are ignored. Raises `InvalidParameter`."""
    pairs = parse_qsl(query, keep_blank_values=True)
    check_include([value for name, value in pairs if name.partition("[")[0] == "include"])
    given = dict(pairs)
    stream = given.get("stream", "false").lower()
    if stream not in {"true", "false"}:
        raise InvalidParameter("stream", "`stream` must be true or false")
    after = given.get("starting_after")
    if after is None:
        return Retrieval(stream == "true")
    if not after.isascii() or not after.isdigit() or len(after) > _MAX_NUMBER_CHARS:
        raise InvalidParameter(
            "starting_after", "`starting_after` takes the `sequence_number` of an event: a whole number"
        )
    if stream == "false":
        raise InvalidParameter("starting_after", "`starting_after` is for streams: send `stream=true` with it")
    return Retrieval(stream=True, starting_after=int(after))
