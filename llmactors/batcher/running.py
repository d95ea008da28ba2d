"""One claimed request, and what its backend has made. Pure."""

import attrs

from llmactors.backends.base import Output
from llmactors.backends.messages import Key
from llmactors.ledger import AppendEntry, Claim
from llmactors.messages import Finished, Terminal, TokenDelta, Usage

_MOST_PROMPT_TOKENS = 2**31 - 1
"""A greater prompt length counts as unknown. The length is charged to a tenant, and Redis must be able to store the
charge."""


@attrs.define(eq=False)
class Running:
    """One request with every token of its answer, in the log or not."""

    claim: Claim
    since: float = 0.0
    """When this worker got the request, on Trio's clock."""
    key: Key = attrs.field(init=False)
    deltas: list[TokenDelta] = attrs.field(init=False, repr=False)
    end: Terminal | None = attrs.field(default=None, init=False)
    """The terminal event, once the backend has finished the request."""
    taken: int = attrs.field(init=False)
    """How many of `deltas` are in the log, or in an append that is under way."""

    def __attrs_post_init__(self) -> None:
        self.key = self.claim.request.id, self.claim.epoch
        self.deltas = list(self.claim.tokens)
        self.taken = len(self.deltas)

    def produced(self, output: Output) -> None:
        """Adds what the backend made in one step."""
        self.deltas.extend(output.deltas)
        if output.finish is not None:
            prompt_tokens = output.prompt_tokens if 0 <= output.prompt_tokens <= _MOST_PROMPT_TOKENS else 0
            cached_tokens = max(0, min(output.cached_tokens, prompt_tokens))
            self.end = Finished(output.finish, Usage(prompt_tokens, len(self.deltas), cached_tokens))

    @property
    def prompt_usage(self) -> tuple[int, int]:
        """How many tokens the prompt has, and how many of them came from a cache; 0 where the answer has no end."""
        if not isinstance(self.end, Finished):
            return 0, 0
        return self.end.usage.prompt_tokens, self.end.usage.cached_tokens

    def take(self) -> AppendEntry:
        """Returns what no append has taken yet, as one entry."""
        first, self.taken = self.taken, len(self.deltas)
        return AppendEntry(*self.key, first + 1, self.deltas[first:], self.end)
