"""A refusal by a caller's limits: which limit, when to come again, and whether that makes sense. Pure."""

from collections.abc import Sequence

from llmactors.errors import RateLimited
from llmactors.limiter.charges import Limit, Standing
from llmactors.limiter.headers import format_duration

_NAMES = {
    Limit.RATE: "requests",
    Limit.REQUESTS: "requests per minute",
    Limit.TOKENS: "tokens per minute",
    Limit.DAY: "tokens per day",
    Limit.CONCURRENT: "concurrent requests",
}


class LimitReached(RateLimited):
    """A refusal that knows its numbers, for the headers. `standings` are of all limits of the caller."""

    def __init__(self, standings: Sequence[Standing]) -> None:
        refused = [standing for standing in standings if not standing.decision.admitted]
        # What cannot be mended by waiting says more than what can, and the longest wait more than a shorter.
        worst = max(refused, key=_wait_s)
        super().__init__(_message(worst), retry_after_s=worst.decision.retry_after_s)
        self.standings = tuple(standings)
        self.limit = worst.charge.limit

    @property
    def should_retry(self) -> bool:
        """Whether it is worth a client's while to wait: not for the next day, nor for ever."""
        return self.retry_after_s is not None and self.limit is not Limit.DAY


def _wait_s(standing: Standing) -> float:
    wait_s = standing.decision.retry_after_s
    return float("inf") if wait_s is None else wait_s


def _message(standing: Standing) -> str:
    charge, decision = standing.charge, standing.decision
    name = _NAMES[charge.limit]
    if charge.policy is not None and charge.limit is Limit.RATE:
        name += f" per {charge.policy.period_s:g} s"
    said = f"rate limit reached: {name}: limit {charge.most}, remaining {decision.remaining}, requested {charge.cost}"
    if decision.retry_after_s is None:
        return f"{said}; this can never be admitted: ask for less at once"
    if charge.limit is Limit.CONCURRENT:
        return f"{said}; try again when one of them has ended"
    return f"{said}; try again in {format_duration(decision.retry_after_s)}"
