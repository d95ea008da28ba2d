"""One claimed request as its batcher knows it. Pure."""

import attrs

from llmactors.backends.base import Output
from llmactors.backends.messages import Key
from llmactors.ledger import AppendEntry, Claim
from llmactors.messages import Finished, Terminal, TokenDelta, Usage

_MOST_PROMPT_TOKENS = 2**31 - 1
"""Who says more, as a server elsewhere may, does not know: it is charged to a tenant, and must go through Redis."""


@attrs.define(eq=False)
class Running:
    """Every token of the answer, and how far they were taken to be written to the log."""

    claim: Claim
    key: Key = attrs.field(init=False)
    deltas: list[TokenDelta] = attrs.field(init=False, repr=False)
    end: Terminal | None = attrs.field(default=None, init=False)
    """The terminal event, once the backend is done with it."""
    taken: int = attrs.field(init=False)
    """So many of `deltas` were taken to be written, or were in the log before."""

    def __attrs_post_init__(self) -> None:
        self.key = self.claim.request.id, self.claim.epoch
        self.deltas = list(self.claim.tokens)
        self.taken = len(self.deltas)

    def produced(self, output: Output) -> None:
        """The backend made this."""
        self.deltas.extend(output.deltas)
        if output.finish is not None:
            prompt_tokens = output.prompt_tokens if 0 <= output.prompt_tokens <= _MOST_PROMPT_TOKENS else 0
            self.end = Finished(output.finish, Usage(prompt_tokens, len(self.deltas)))

    def take(self) -> AppendEntry:
        """What was not taken yet, as one entry."""
        first, self.taken = self.taken, len(self.deltas)
        return AppendEntry(*self.key, first + 1, self.deltas[first:], self.end)
