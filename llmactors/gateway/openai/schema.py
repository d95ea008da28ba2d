"""The bodies that clients send to the OpenAI routes.

A field that asks for something that is not served here is refused by its name, so that no answer differs from what was
asked for. Unknown fields are ignored, as OpenAI's clients expect, and so are fields that only describe the caller.
"""

import time
from collections.abc import Mapping
from typing import Annotated, Any

import attrs
import msgspec

from llmactors.gateway.answer_rules import AnswerRules, TextFormat
from llmactors.gateway.body import MAX_STOP_CHARS, MAX_STOPS, NonEmpty
from llmactors.gateway.conversation_key import conversation_of
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.fields import read_fields
from llmactors.gateway.openai.images import image_names
from llmactors.gateway.openai.logprobs import MAX_TOP_LOGPROBS
from llmactors.gateway.openai.messages import MAX_MESSAGES, check_parts, read_message, without_empty_answers
from llmactors.gateway.openai.prompts import TokenId, read_prompts
from llmactors.gateway.openai.text_formats import FORMAT_FIELDS, read_text_format
from llmactors.gateway.openai.tools import MAX_TOOLS, read_functions, read_tool_choice
from llmactors.gateway.openai.unserved import UNSERVED, UNSERVED_OF_COMPLETIONS
from llmactors.gateway.reasoning_effort import Effort
from llmactors.gateway.sampling import SamplingFields, defaulted_fields
from llmactors.messages import ChatMessage, GenerateRequest

DEFAULT_CHAT_TOKENS = 512
DEFAULT_COMPLETION_TOKENS = 16
"""The default of OpenAI's own API for completions."""
MAX_CHOICES = 16
MAX_BIASES = 1024
CHARS_PER_TOKEN = 4
"""The number of characters that one token id counts as in the bound on the length of a prompt."""

Choices = Annotated[int, msgspec.Meta(ge=1, le=MAX_CHOICES)]
Count = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
TopLogprobs = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOP_LOGPROBS)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Bias = Annotated[float, msgspec.Meta(ge=-100, le=100)]
StopText = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_STOP_CHARS)]


@attrs.frozen(kw_only=True)
class StreamOptions:
    """The field `stream_options`."""

    include_usage: bool | None = None


@attrs.frozen(kw_only=True)
class CommonBody(SamplingFields):
    """The fields that all OpenAI routes have in common."""

    model: NonEmpty
    n: Choices | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    seed: int | None = None
    stop: StopText | Annotated[list[StopText], msgspec.Meta(max_length=MAX_STOPS)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    prompt_cache_key: str | None = None
    logit_bias: Annotated[dict[TokenId, Bias], msgspec.Meta(max_length=MAX_BIASES)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def with_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def logged_logprobs(self) -> int | None:
        """The request's `top_logprobs`. Raises `InvalidParameter`."""
        return None

    @property
    def effort(self) -> str:
        """The request's `reasoning_effort`. Raises `InvalidParameter`."""
        return ""


@attrs.frozen(kw_only=True)
class FormattedBody(CommonBody):
    """The fields that say which form the text of an answer has to have. `text_formats` reads them."""

    response_format: Any = None
    structured_outputs: Any = None
    guided_json: Any = None
    guided_json_object: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    guided_regex: Any = None
    grammar: Any = None
    json_schema: Any = None

    @property
    def text_format(self) -> TextFormat | None:
        """The wanted form; None for free text. Raises `InvalidParameter`."""
        return read_text_format({name: getattr(self, name) for name in FORMAT_FIELDS})


@attrs.frozen(kw_only=True)
class ChatBody(FormattedBody):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    tools: Annotated[list[Any], msgspec.Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    reasoning_effort: Effort | None = None

    @property
    def field_names(self) -> dict[str, str]:
        """The names that the client sent for fields of the request, where the names differ."""
        return super().field_names | image_names("messages", self.messages)

    @property
    def effort(self) -> str:
        """The request's `reasoning_effort`."""
        return self.reasoning_effort or ""

    @property
    def logged_logprobs(self) -> int | None:
        """The request's `top_logprobs`. Raises `InvalidParameter`."""
        if self.logprobs:
            return self.top_logprobs or 0
        if self.top_logprobs:
            raise InvalidParameter("top_logprobs", "`top_logprobs` needs `logprobs`: send `logprobs: true` with it")
        return None

    @property
    def rules(self) -> AnswerRules | None:
        """What the client wants of the form of the answer; None for free text. Raises `InvalidParameter`."""
        functions = read_functions(self.tools or ())
        tool_choice = read_tool_choice(self.tool_choice, functions)
        if tool_choice.mode == "none":
            functions = ()  # the model does not see tools that it may not call
        text_format = self.text_format
        if not functions and text_format is None:
            return None
        return AnswerRules(functions, tool_choice, self.parallel_tool_calls is not False, text_format)

    def choices(self, deadline_ms: int | None) -> list["ChoiceBody"]:
        """One request for each choice."""
        check_parts("messages", self.messages)
        messages = without_empty_answers(
            "messages",
            [read_message("messages", f"messages[{number}]", message) for number, message in enumerate(self.messages)],
        )
        most = self.max_completion_tokens or self.max_tokens
        count, rules = self.n or 1, self.rules
        return [
            ChoiceBody.of(
                self,
                number,
                deadline_ms,
                most or DEFAULT_CHAT_TOKENS,
                messages=messages,
                choices=count,
                fit=most is None,
                rules=rules,
            )
            for number in range(count)
        ]


@attrs.frozen(kw_only=True)
class CompletionBody(FormattedBody):
    """The body of `POST /v1/completions`."""

    prompt: str | list[Any]
    max_tokens: Count | None = None
    logprobs: TopLogprobs | bool | None = None

    @property
    def logged_logprobs(self) -> int | None:
        """The request's `top_logprobs`. Raises `InvalidParameter`."""
        if self.logprobs is True:
            raise InvalidParameter("logprobs", "`logprobs` takes the number of the most probable tokens to show here")
        return None if self.logprobs is False else self.logprobs

    def choices(self, deadline_ms: int | None) -> list["ChoiceBody"]:
        """One request for each choice of each prompt."""
        prompts = read_prompts(self.prompt, MAX_CHOICES)
        if not prompts or not all(prompts):
            raise InvalidParameter("prompt", "`prompt` is empty")
        count = len(prompts) * (self.n or 1)
        if count > MAX_CHOICES:
            raise InvalidParameter(
                "prompt", f"`prompt` and `n` ask for {count} answers at once; at most {MAX_CHOICES} are served"
            )
        most = self.max_tokens or DEFAULT_COMPLETION_TOKENS
        text_format = self.text_format
        rules = None if text_format is None else AnswerRules(text_format=text_format)
        fit = self.max_tokens is None
        return [
            ChoiceBody.of(self, number, deadline_ms, most, prompt=prompt, choices=count, fit=fit, rules=rules)
            for prompt in prompts
            for number in range(self.n or 1)
        ]


@attrs.frozen(kw_only=True)
class ChoiceBody:
    """One choice of a call: a request of its own in the ledger."""

    model: str
    max_tokens: int
    max_tokens_fit: bool
    prompt: str
    prompt_ids: tuple[int, ...]
    messages: tuple[ChatMessage, ...]
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    deadline_ms: int | None
    choices: int = 1
    metadata: str = ""
    grace_s: float | None = None
    """The time that the request lives without a reader, in seconds; None for the node's `resume_grace_s`."""
    retention_s: float | None = None
    """How long the log can be read after the end, in seconds; None for the ledger's `retention_s`."""
    defaulted: tuple[str, ...] = ()
    """The fields that the client did not give, as `GenerateRequest.defaulted` has them."""
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    top_logprobs: int | None = None
    reasoning_effort: str = ""
    sampling: Mapping[str, Any] = attrs.field(factory=dict)
    """More fields of the request: the rules for drawing tokens that not every backend honours."""
    field_names: Mapping[str, str] = attrs.field(factory=dict)
    """The names that the client sent for fields of the request, where the names differ."""
    rules: AnswerRules | None = None
    """What the client wants of the form of the answer. `Admitter` makes the constraint and the tools of the request."""

    @classmethod
    def of(
        cls,
        body: CommonBody,
        number: int,
        deadline_ms: int | None,
        max_tokens: int,
        *,
        prompt: str | tuple[int, ...] = "",
        messages: tuple[ChatMessage, ...] = (),
        choices: int = 1,
        fit: bool = False,
        rules: AnswerRules | None = None,
    ) -> "ChoiceBody":
        """The choice `number` of `choices`. With a seed, the choices of a call differ, and each choice is the same in
        every call.
        """
        return cls(
            model=body.model,
            max_tokens=max_tokens,
            max_tokens_fit=fit,
            prompt=prompt if isinstance(prompt, str) else "",
            prompt_ids=() if isinstance(prompt, str) else prompt,
            messages=messages,
            # A `top_p` of 0 leaves only the most probable token, as a temperature of 0 does.
            temperature=0.0 if body.top_p == 0 else 1.0 if body.temperature is None else body.temperature,
            top_p=body.top_p or 1.0,
            defaulted=defaulted_fields(body.temperature, body.top_p),
            seed=None if body.seed is None else (body.seed + number) % 2**32,
            stop=body.stops,
            deadline_ms=deadline_ms,
            choices=choices,
            frequency_penalty=body.frequency_penalty or 0.0,
            presence_penalty=body.presence_penalty or 0.0,
            top_logprobs=body.logged_logprobs,
            reasoning_effort=body.effort,
            sampling=body.sampling(max_tokens),
            field_names=body.field_names,
            logit_bias=tuple(sorted((token, bias) for token, bias in (body.logit_bias or {}).items() if bias)),
            rules=rules,
        )

    @property
    def priority(self) -> int:
        """The default class: OpenAI's API has no classes."""
        return 1

    @property
    def prompt_chars(self) -> int:
        ids = len(self.prompt_ids) * CHARS_PER_TOKEN
        calls = sum(len(call.name) + len(call.arguments) for message in self.messages for call in message.tool_calls)
        return ids + len(self.prompt) + sum(len(message.content) for message in self.messages) + calls

    def to_request(
        self,
        request_id: str,
        *,
        model: str,
        tenant: str,
        priority: int,
        weight: float,
        resume_grace_s: float,
        session: str = "",
    ) -> GenerateRequest:
        """The request for the ledger."""
        conversation, follows_up = conversation_of(tenant, session, messages=self.messages, raw_prompt=self.prompt)
        return GenerateRequest(
            id=request_id,
            model=model,
            prompt=self.prompt,
            messages=self.messages,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            defaulted=self.defaulted,
            seed=self.seed,
            stop=self.stop,
            raw=not self.messages,
            tenant=tenant,
            priority=priority,
            weight=weight,
            deadline_ms=self.deadline_ms,
            resume_grace_ms=int((resume_grace_s if self.grace_s is None else self.grace_s) * 1000),
            retention_ms=None if self.retention_s is None else int(self.retention_s * 1000),
            created_ms=time.time_ns() // 1_000_000,
            metadata=self.metadata,
            choices=self.choices,
            max_tokens_fit=self.max_tokens_fit,
            prompt_ids=self.prompt_ids,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            logit_bias=self.logit_bias,
            top_logprobs=self.top_logprobs,
            reasoning_effort=self.reasoning_effort,
            conversation=conversation,
            follows_up=follows_up,
            **self.sampling,
        )


def read_chat(fields: dict[str, Any]) -> ChatBody:
    """The body of a chat. Raises `InvalidParameter`, which names the field."""
    return read_fields(fields, ChatBody, UNSERVED)


def read_completion(fields: dict[str, Any]) -> CompletionBody:
    """The body of a completion. Raises `InvalidParameter`, which names the field."""
    return read_fields(fields, CompletionBody, UNSERVED_OF_COMPLETIONS)
