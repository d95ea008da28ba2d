"""The bodies that clients of Anthropic's API send. Pure.

Fields that only describe the caller or the cache, such as `metadata` and `cache_control`, are ignored, and so are
unknown fields.
"""

from typing import Annotated, Any

import attrs
import msgspec

from llmactors.gateway.anthropic.history import read_history
from llmactors.gateway.anthropic.tools import read_rules
from llmactors.gateway.body import MAX_STOPS, NonEmpty, clipped
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.fields import convert_known
from llmactors.gateway.openai.images import image_names
from llmactors.gateway.openai.messages import MAX_MESSAGES
from llmactors.gateway.openai.schema import ChoiceBody, Count, StopText
from llmactors.gateway.openai.tools import MAX_TOOLS
from llmactors.gateway.openai.unserved import ONLY_NULL, Unserved, asks_for_nothing
from llmactors.gateway.sampling import defaulted_fields

UNSERVED: Unserved = {"container": ONLY_NULL, "mcp_servers": (None, [])}
"""The fields that are not served, each with its values that change nothing."""
THINKING = ("adaptive", "between_tools", "disabled", "enabled")
"""The values of `thinking.type`."""


@attrs.frozen(kw_only=True)
class PromptBody:
    """The fields that make a prompt: the body of `POST /v1/messages/count_tokens`."""

    model: NonEmpty
    messages: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: str | list[dict[str, Any]] | None = None
    tools: Annotated[list[Any], msgspec.Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None

    @property
    def shows_thinking(self) -> bool:
        """Whether the answer has the blocks of the model's reasoning. Raises `InvalidParameter`.

        A model reasons or does not: no field changes that.
        """
        if self.thinking is None:
            return False
        kind = self.thinking.get("type")
        if kind not in THINKING:
            wanted = ", ".join(f"`{each}`" for each in THINKING)
            raise InvalidParameter("thinking", f"`thinking.type` must be one of {wanted}, not {clipped(kind)}")
        return kind != "disabled" and self.thinking.get("display") != "omitted"

    def choice(self, deadline_ms: int | None) -> ChoiceBody:
        """The request whose prompt has to be counted: the shortest answer to the prompt."""
        return self._choice(deadline_ms, max_tokens=1)

    def _choice(
        self,
        deadline_ms: int | None,
        *,
        max_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        defaulted: tuple[str, ...] = (),
        top_k: int = 0,
        stop: tuple[str, ...] = (),
    ) -> ChoiceBody:
        return ChoiceBody(
            model=self.model,
            max_tokens=max_tokens,
            # Anthropic's clients ask for the longest answer of their models, which is longer than most contexts.
            max_tokens_fit=True,
            prompt="",
            prompt_ids=(),
            messages=read_history(self.system, self.messages),
            temperature=temperature,
            top_p=top_p,
            defaulted=defaulted,
            seed=None,
            stop=stop,
            deadline_ms=deadline_ms,
            sampling={"top_k": top_k},
            field_names=image_names("messages", self.messages),
            rules=read_rules(self.tools or (), self.tool_choice, self.output_config),
        )


@attrs.frozen(kw_only=True)
class MessagesBody(PromptBody):
    """The body of `POST /v1/messages`."""

    max_tokens: Count
    stream: bool | None = None
    stop_sequences: Annotated[list[StopText], msgspec.Meta(max_length=MAX_STOPS)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None

    def choice(self, deadline_ms: int | None) -> ChoiceBody:
        """The request of the call. Raises `InvalidParameter`."""
        return self._choice(
            deadline_ms,
            max_tokens=self.max_tokens,
            # A `top_p` of 0 leaves only the most probable token, as a temperature of 0 does.
            temperature=0.0 if self.top_p == 0 else 1.0 if self.temperature is None else self.temperature,
            top_p=self.top_p or 1.0,
            defaulted=defaulted_fields(self.temperature, self.top_p),
            top_k=self.top_k or 0,
            stop=tuple(self.stop_sequences or ()),
        )


def read_messages(fields: dict[str, Any]) -> MessagesBody:
    """The body of a call for an answer. Raises `InvalidParameter`, which names the field."""
    _check_served(fields)
    return convert_known(fields, MessagesBody)


def read_prompt(fields: dict[str, Any]) -> PromptBody:
    """The body of a call that counts tokens. Raises `InvalidParameter`, which names the field."""
    _check_served(fields)
    return convert_known(fields, PromptBody)


def _check_served(fields: dict[str, Any]) -> None:
    for name, harmless in UNSERVED.items():
        if name in fields and not asks_for_nothing(fields[name], harmless):
            raise InvalidParameter(name, f"`{name}` is not served here; leave it out")
