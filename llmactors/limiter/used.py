"""What an ended request has used, which limits are charged and the usage record repeats. Pure."""

from typing import Self

import attrs

from llmactors.messages import Failed, Terminal
from llmactors.prices import Price


@attrs.frozen
class Used:
    """The tokens of one request, and their cost."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """How many of the prompt's tokens came from a cache."""
    cost_nano: int = 0
    """The cost in billionths of the currency's unit; 0 where the model has no price."""

    @property
    def tokens(self) -> int:
        """The tokens of prompt and answer."""
        return self.prompt_tokens + self.completion_tokens

    @classmethod
    def of(cls, end: Terminal, *, started: bool, logged: int, prompt_estimate: int, price: Price | None) -> Self:
        """What an ended request has used. An unknown number is estimated too high rather than too low.

        Args:
            end: The request's terminal event.
            started: Whether a worker ever claimed the request, so that its prompt may have been processed.
            logged: The number of tokens in the request's log.
            prompt_estimate: The number of tokens that was reserved for the prompt.
            price: The price of the tokens; None where they cost nothing.
        """
        known, made, cached = (
            (0, 0, 0)
            if end.usage is None
            else (end.usage.prompt_tokens, end.usage.completion_tokens, end.usage.cached_tokens)
        )
        refused = isinstance(end, Failed) and end.code == "INVALID_REQUEST"
        prompt = known if known > 0 or refused or not started else prompt_estimate
        prompt, made, cached = max(prompt, 0), max(logged, made), min(cached, known)
        return cls(prompt, made, cached, 0 if price is None else price.cost_nano(prompt, made, cached))
