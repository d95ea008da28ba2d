"""A rate, the state that is remembered of one caller, and the decision on one request. Pure data."""

import enum
import math

import attrs

from llmactors import errors

MICROSECONDS = 1_000_000


class RateKind(enum.Enum):
    """The algorithms that count a rate."""

    GCRA = "gcra"
    """Evenly: what was used comes back continuously. See `gcra`."""
    FIXED_WINDOW = "fixed_window"
    """An amount for each aligned window; the whole amount comes back at the window's end. See `fixed_window`."""
    CALENDAR_MONTH = "month"
    """As `FIXED_WINDOW`, with the months of UTC as windows. `period_s` is the length of the longest month."""


@attrs.frozen(kw_only=True, cache_hash=True)
class RatePolicy:
    """`amount` per `period_s`, of requests or tokens.

    Raises:
        ConfigError: A number is out of range, or a fixed window was given a burst.
    """

    kind: RateKind = RateKind.GCRA
    amount: int
    period_s: float
    burst: int | None = None
    """GCRA: how much may be used at once after a rest; None stands for `amount`. A fixed window has no burst."""

    def __attrs_post_init__(self) -> None:
        if self.amount < 1:
            raise errors.ConfigError(f"rate limit: the amount is {self.amount}, and must be at least 1")
        if not (math.isfinite(self.period_s) and self.period_s >= 0.001):
            raise errors.ConfigError(f"rate limit: period_s is {self.period_s}, and must be at least 0.001")
        if self.burst is not None and self.burst < 1:
            raise errors.ConfigError(f"rate limit: the burst is {self.burst}, and must be at least 1")
        if self.burst is not None and self.kind is not RateKind.GCRA:
            raise errors.ConfigError(
                "rate limit: a fixed window has no burst; use the gcra algorithm, or leave out the burst"
            )

    @property
    def limit(self) -> int:
        """The most that can be used at once."""
        return self.amount if self.burst is None else self.burst

    @property
    def period_us(self) -> int:
        return round(self.period_s * MICROSECONDS)


@attrs.frozen
class LimitDecision:
    """Whether one request is admitted, and how much of the limit is left."""

    admitted: bool
    limit: int
    """The largest value of `remaining`."""
    remaining: int
    """The exact amount that would still be admitted at the same moment."""
    reset_s: float
    """The seconds until `remaining` is `limit` again, if nothing more is used."""
    retry_after_s: float | None = None
    """The seconds after which the refused request is admitted, if no other request comes. None if the request was
    admitted, or if its cost is above `limit`, so that it is never admitted."""


@attrs.frozen
class RateState:
    """What is remembered of one caller and one limit. The meaning of the fields depends on the algorithm."""

    at_us: int
    """GCRA: when `used` was measured. Fixed window: when the window ends."""
    used: int
    """GCRA: what has not drained yet, in units of cost times microseconds of the period. Fixed window: the cost."""
    returned: int = 0
    """GCRA: the cost that was given back since the state was created."""
    born_us: int = 0
    """GCRA: when the state was created, which identifies the state."""


Mark = RateState
"""The state right after a reservation, from which follows later how much of the reservation can be given back."""


def to_us(now_s: float) -> int:
    """A time in whole microseconds, which are added and compared without rounding, in Lua too."""
    return int(now_s * MICROSECONDS)


def wait_s(wait_us: int) -> float:
    """A waiting time in seconds, rounded up to a millisecond so that the wait is long enough.

    The added microsecond covers the rounding of a float clock, which is a quarter of a microsecond for the time since
    1970.
    """
    return -(-(wait_us + 1) // 1000) / 1000
