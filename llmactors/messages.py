"""The frozen vocabulary that all parts share: what a client asks for, and what is written to its token log."""

from typing import Literal

import attrs
import msgspec

FinishReason = Literal["stop", "length", "cancelled"]

OPTIONAL_FIELDS = ("prompt_ids", "frequency_penalty", "presence_penalty", "logit_bias")
"""Fields of a request that a backend must have declared to honour, before any request that has them may go to it."""


@attrs.frozen
class ChatMessage:
    """One turn of a conversation."""

    role: str
    content: str


@attrs.frozen
class GenerateRequest:
    """One accepted or to-be-accepted request. Equality is what makes a second `submit` a duplicate or a conflict."""

    id: str
    """The request id, which is the stream id too. Chosen by the gateway; unguessable."""
    model: str
    prompt: str
    max_tokens: int = 64
    temperature: float = 0.7
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    raw: bool = False
    """False: the prompt is one user message, put through the model's chat template. True: it is given as it is."""
    messages: tuple[ChatMessage, ...] = ()
    """A conversation, put through the model's chat template; `prompt` is empty then."""
    tenant: str = "anonymous"
    """Whom the request belongs to: only this tenant may follow or cancel it."""
    priority: int = 1
    """The class: 0 is served before 1, 1 before 2."""
    weight: float = 1.0
    """The tenant's share of its class: of two that both wait, one of weight 2 gets twice the tokens. Above 0."""
    deadline_ms: int | None = None
    """When it is no longer wanted: milliseconds since 1970, or None."""
    resume_grace_ms: int = 10_000
    """How long it runs without a reader before it is cancelled, in milliseconds."""
    created_ms: int | None = None
    """When it was asked for: milliseconds since 1970. None where no client is told."""
    note: str = ""
    """What its front has to know of it at any other gateway, in the front's own words: nobody else reads it."""
    choices: int = 1
    """How many requests the call became that this is one of. A call with the same idempotency key has as many."""
    max_tokens_fit: bool = False
    """True: `max_tokens` is lowered to what the context leaves beside the prompt; else what does not fit is refused."""
    prompt_ids: tuple[int, ...] = ()
    """The prompt as ids of the model's own tokens, given as they are; `prompt` and `messages` are empty then."""
    frequency_penalty: float = 0.0
    """Lowers a token's logit by this for each time that the text so far, prompt and answer, has it."""
    presence_penalty: float = 0.0
    """Lowers the logits of all tokens that the text so far has, by this."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """What to add to the logits of some tokens: their ids, in ascending order, each with its bias."""

    @property
    def text(self) -> str:
        """All that it says, for whoever has no chat template. Of token ids: the numbers."""
        said = self.prompt or " ".join(map(str, self.prompt_ids))
        return said or "\n".join(f"{message.role}: {message.content}" for message in self.messages)

    @property
    def demands(self) -> frozenset[str]:
        """Which fields it makes use of that not every backend honours, by their names; mostly empty."""
        return frozenset(name for name in OPTIONAL_FIELDS if getattr(self, name))


class TokenDelta(msgspec.Struct, frozen=True, gc=False):
    """One token of an answer. Its `seq` is its place in the log, counted from 1; it is not repeated here.

    No attrs class, as there are so many: made in a fifth of the time, and of no concern to the garbage collector.
    """

    token: int
    """The model's id of the token; a takeover continues from these."""
    text: str
    """What the token adds to the text; empty while a character or a stop string is incomplete."""


@attrs.frozen
class Usage:
    """What the request cost, in tokens."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@attrs.frozen
class Finished:
    """The terminal event of an answer that is whole, or that was cancelled."""

    reason: FinishReason
    usage: Usage


@attrs.frozen
class Failed:
    """The terminal event of an answer that could not be finished. `code` is one of `errors.STREAM_CODES`."""

    code: str
    message: str
    usage: Usage | None = None


Terminal = Finished | Failed
