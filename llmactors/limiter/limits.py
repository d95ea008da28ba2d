"""The limits of one tenant. Pure data."""

from typing import Literal

import attrs

from llmactors import errors
from llmactors.prices import MOST_NANO, format_amount

MOST = 10**12
"""The highest value of a bound. Numbers in Lua are doubles, which hold no much larger integers exactly."""


@attrs.frozen
class Budget:
    """How much money may be spent in each day or each month of UTC.

    Raises:
        ConfigError: The amount is out of range.
    """

    amount_nano: int
    """In billionths of the currency's unit."""
    period: Literal["day", "month"]
    of: Literal["tenant", "key"] = "tenant"
    """Whether all keys of a tenant share the budget, or the API key has the budget alone."""

    def __attrs_post_init__(self) -> None:
        if not 0 < self.amount_nano <= MOST_NANO:
            raise errors.ConfigError(
                f"limits: a budget is {format_amount(self.amount_nano)}, must be above 0 and at most 1000000"
            )

    def __str__(self) -> str:
        return f"{format_amount(self.amount_nano)}/{self.period}"


@attrs.frozen(kw_only=True)
class Limits:
    """The bounds on one tenant, over all gateways of a cluster. None stands for no bound.

    Raises:
        ConfigError: A bound is below 1, or above `MOST`.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Tokens of prompts and answers. An answer counts as `max_tokens` until it has ended, then as its real length."""
    tokens_per_day: int | None = None
    concurrent: int | None = None
    """Requests that are accepted and have not ended."""
    budgets: tuple[Budget, ...] = ()
    """At most one for each period of the tenant and of the key. A request counts as the most that it can cost until it
    has ended, then as its real cost."""

    def __attrs_post_init__(self) -> None:
        if len({(budget.period, budget.of) for budget in self.budgets}) < len(self.budgets):
            raise errors.ConfigError("limits: there are two budgets for the same period")
        for name, value in self.counts.items():
            if value is not None and value < 1:
                raise errors.ConfigError(f"limits: {name} is {value}, must be at least 1")
            if value is not None and value > MOST:
                raise errors.ConfigError(
                    f"limits: {name} is {value}, must be at most {MOST}; leave it out for no limit"
                )

    @property
    def counts(self) -> dict[str, int | None]:
        """All bounds but the budgets, by name."""
        return {
            "requests_per_minute": self.requests_per_minute,
            "tokens_per_minute": self.tokens_per_minute,
            "tokens_per_day": self.tokens_per_day,
            "concurrent": self.concurrent,
        }
