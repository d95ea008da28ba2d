"""A refusal by a caller's limits: which limit, and whether and when another try can succeed. Pure."""

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
    """A refusal by a limit. `standings` has the figures of all of the caller's limits, for the headers."""

    def __init__(self, standings: Sequence[Standing]) -> None:
        refused = [standing for standing in standings if not standing.decision.admitted]
        # A limit that no wait can help names the reason best; else the limit with the longest wait.
        worst = max(refused, key=_wait_s)
        super().__init__(_message(worst), retry_after_s=worst.decision.retry_after_s)
        self.standings = tuple(standings)
        self.limit = worst.charge.limit

    @property
    def should_retry(self) -> bool:
        """Whether a client should try again by itself: not where the wait is until the next day, or for ever."""
        return self.retry_after_s is not None and self.limit is not Limit.DAY


def _wait_s(standing: Standing) -> float:
    wait_s = standing.decision.retry_after_s
    return float("inf") if wait_s is None else wait_s


def _message(standing: Standing) -> str:
    charge, decision = standing.charge, standing.decision
    name = _NAMES[charge.limit]
    if charge.policy is not None and charge.limit is Limit.RATE:
        name += f" per {charge.policy.period_s:g} s"
    text = f"rate limit reached: {name}: limit {charge.most}, remaining {decision.remaining}, requested {charge.cost}"
    if decision.retry_after_s is None:
        return f"{text}; this can never be admitted: ask for less in one request"
    if charge.limit is Limit.CONCURRENT:
        return f"{text}; try again when one of them has ended"
    return f"{text}; try again in {format_duration(decision.retry_after_s)}"
