"""Makes whole answers without a long hold on the event loop."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import trio

from llmactors.ledger import LogSlice
from llmactors.messages import GenerateRequest

T = TypeVar("T")

_AT_ONCE_US = 4_000
"""An answer that takes at most about this time, in microseconds, is made at once: a thread would cost more."""
_TOKEN_US = 1
_LOGPROB_US = 3
"""About how long a token takes, and each log probability of a token."""


class WholeAnswers:
    """Makes whole answers from their logs. Long answers are made in a thread, one after the other."""

    def __init__(self) -> None:
        self._turn = trio.CapacityLimiter(1)

    def __repr__(self) -> str:
        return f"<WholeAnswers {self._turn.borrowed_tokens} in a thread>"

    async def make(self, make: Callable[[], T], requests: Sequence[GenerateRequest], logs: Sequence[LogSlice]) -> T:
        """What `make` returns, which takes time in proportion to the logs of the requests. Raises as `make`."""
        cost_us = sum(_cost_us(request, log) for request, log in zip(requests, logs, strict=True))
        if cost_us <= _AT_ONCE_US:
            return make()
        return await trio.to_thread.run_sync(make, limiter=self._turn, abandon_on_cancel=True)

    async def encode(
        self, make: Callable[[], object], requests: Sequence[GenerateRequest], logs: Sequence[LogSlice]
    ) -> msgspec.Raw:
        """As `make`, as JSON."""
        return await self.make(lambda: msgspec.Raw(msgspec.json.encode(make())), requests, logs)


def _cost_us(request: GenerateRequest, log: LogSlice) -> int:
    probabilities = 0 if request.top_logprobs is None else 1 + request.top_logprobs
    return len(log.deltas) * (_TOKEN_US + _LOGPROB_US * probabilities)
