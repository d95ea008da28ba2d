"""How much a caller may use in a time, and the answer to one request for it. Pure data."""

import enum
import math

import attrs

from llmactors import errors

MICROSECONDS = 1_000_000


class RateKind(enum.Enum):
    """How a rate is counted."""

    GCRA = "gcra"
    """Evenly: what was used comes back bit by bit. See `gcra`."""
    FIXED_WINDOW = "fixed_window"
    """So much per aligned window; all of it comes back at the window's end. See `fixed_window`."""


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
    """GCRA: how much may come at once after a rest; None: `amount`. A fixed window has none."""

    def __attrs_post_init__(self) -> None:
        if self.amount < 1:
            raise errors.ConfigError(f"rate limit: amount is {self.amount}, must be at least 1")
        if not (math.isfinite(self.period_s) and self.period_s >= 0.001):
            raise errors.ConfigError(f"rate limit: period_s is {self.period_s}, must be at least 0.001")
        if self.burst is not None and self.burst < 1:
            raise errors.ConfigError(f"rate limit: burst is {self.burst}, must be at least 1")
        if self.burst is not None and self.kind is RateKind.FIXED_WINDOW:
            raise errors.ConfigError("rate limit: a fixed window has no burst")

    @property
    def limit(self) -> int:
        """The most that can be admitted at one moment."""
        return self.amount if self.burst is None else self.burst

    @property
    def period_us(self) -> int:
        return round(self.period_s * MICROSECONDS)


@attrs.frozen
class Decision:
    """The answer to one request to be admitted."""

    admitted: bool
    limit: int
    """The most that `remaining` can be."""
    remaining: int
    """Exactly so much more would be admitted at the same moment."""
    reset_s: float
    """In how many seconds `remaining` is `limit` again if nothing more comes."""
    retry_after_s: float | None = None
    """Refused: the same request, come alone, is admitted after so many seconds. None: it was admitted, or its cost is
    above `limit` and it never will be."""


@attrs.frozen
class State:
    """What is remembered of one caller and one limit. What the fields mean is the algorithm's business."""

    at_us: int
    """GCRA: when `used` was measured. Fixed window: when it ends."""
    used: int
    """GCRA: what has not drained yet, in units of cost times microseconds of the period. Fixed window: cost."""
    returned: int = 0
    """GCRA: how much cost was given back in this state's life."""
    born_us: int = 0
    """GCRA: when it came into being. Another life, another moment."""


Mark = State
"""The state right after a reservation: what tells later how much of the reservation can still be given back."""


def to_us(now_s: float) -> int:
    """A moment as the algorithms count it. Whole microseconds: they add and compare without rounding, in Lua too."""
    return int(now_s * MICROSECONDS)


def wait_s(wait_us: int) -> float:
    """A waiting time that is long enough: rounded up to a millisecond.

    The microsecond on top pays for the rounding of float clocks, which at seconds since 1970 is a quarter of one.
    """
    return -(-(wait_us + 1) // 1000) / 1000
