"""A refusal by a caller's limits: which limit, and whether and when another try can succeed. Pure."""

from collections.abc import Sequence

from llmactors.errors import RateLimited
from llmactors.limiter.charges import Limit, Standing
from llmactors.limiter.headers import format_duration
from llmactors.prices import format_amount

_NAMES = {
    Limit.RATE: "requests",
    Limit.REQUESTS: "requests per minute",
    Limit.TOKENS: "tokens per minute",
    Limit.DAY: "tokens per day",
    Limit.CONCURRENT: "concurrent requests",
}
_BUDGETS = {
    Limit.DAY_BUDGET: ("the tenant's budget for a day", "at midnight UTC"),
    Limit.MONTH_BUDGET: ("the tenant's budget for a month", "with the next month of UTC"),
    Limit.KEY_DAY_BUDGET: ("this API key's budget for a day", "at midnight UTC"),
    Limit.KEY_MONTH_BUDGET: ("this API key's budget for a month", "with the next month of UTC"),
}
"""Each budget, and when it begins anew."""


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
        """Whether a client should try again by itself: not where the wait ends with the day or the month, or never."""
        return self.retry_after_s is not None and not (self.limit is Limit.DAY or self.limit.of_money)


def _wait_s(standing: Standing) -> float:
    wait_s = standing.decision.retry_after_s
    return float("inf") if wait_s is None else wait_s


def _message(standing: Standing) -> str:
    charge, decision = standing.charge, standing.decision
    if charge.limit.of_money:
        return _budget_message(standing)
    name = _NAMES[charge.limit]
    if charge.policy is not None and charge.limit is Limit.RATE:
        name += f" per {charge.policy.period_s:g} s"
    text = f"rate limit reached: {name}: limit {charge.most}, remaining {decision.remaining}, requested {charge.cost}"
    if decision.retry_after_s is None:
        return f"{text}; this can never be admitted: ask for less in one request"
    if charge.limit is Limit.CONCURRENT:
        return f"{text}; try again when one of them has ended"
    return f"{text}; try again in {format_duration(decision.retry_after_s)}"


def _budget_message(standing: Standing) -> str:
    charge, decision = standing.charge, standing.decision
    name, anew = _BUDGETS[charge.limit]
    amounts = [format_amount(each) for each in (charge.most, decision.remaining, charge.cost)]
    text = "budget reached: {} is {}, of which {} is left, and this request may cost {}".format(name, *amounts)
    if decision.retry_after_s is None:
        return f"{text}; this can never be admitted: ask for fewer tokens in one request"
    return f"{text}; the budget begins anew {anew}, in {format_duration(decision.retry_after_s)}"
