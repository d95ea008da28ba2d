"""How much a caller may send, and the answer to one request for it. Pure data."""

import enum
import math

import attrs

from llmactors import errors

NANOSECONDS = 1_000_000_000


class RateKind(enum.Enum):
    """How a rate is counted."""

    GCRA = "gcra"
    """Evenly: what was used comes back bit by bit. See `gcra`."""
    FIXED_WINDOW = "fixed_window"
    """So many per aligned window; all of it comes back at the window's end. See `fixed_window`."""


@attrs.frozen(kw_only=True, cache_hash=True)
class RatePolicy:
    """`requests` per `period_s`.

    Raises:
        ConfigError: A number is out of range, or a fixed window was given a burst.
    """

    kind: RateKind = RateKind.GCRA
    requests: int
    period_s: float
    burst: int | None = None
    """GCRA: how many may come at once after a rest; None: `requests`. A fixed window has none."""

    def __attrs_post_init__(self) -> None:
        if self.requests < 1:
            raise errors.ConfigError(f"rate limit: requests is {self.requests}, must be at least 1")
        if not (math.isfinite(self.period_s) and self.period_s >= 0.001):
            raise errors.ConfigError(f"rate limit: period_s is {self.period_s}, must be at least 0.001")
        if self.burst is not None and self.burst < 1:
            raise errors.ConfigError(f"rate limit: burst is {self.burst}, must be at least 1")
        if self.burst is not None and self.kind is RateKind.FIXED_WINDOW:
            raise errors.ConfigError("rate limit: a fixed window has no burst")

    @property
    def limit(self) -> int:
        """The most that can be admitted at one moment."""
        return self.requests if self.burst is None else self.burst

    @property
    def period_ns(self) -> int:
        return round(self.period_s * NANOSECONDS)

    @property
    def interval_ns(self) -> int:
        """What one request costs in time. Rounded up: never more than the rate."""
        return -(-self.period_ns // self.requests)


@attrs.frozen
class Decision:
    """The answer to one request to be admitted."""

    admitted: bool
    limit: int
    """The most that `remaining` can be."""
    remaining: int
    """Exactly so many more requests of cost 1 would be admitted at the same moment."""
    reset_s: float
    """In how many seconds `remaining` is `limit` again if nothing more comes."""
    retry_after_s: float | None = None
    """Refused: the same request, come alone, is admitted after so many seconds. None: it was admitted, or its cost is
    above `limit` and it never will be."""


State = tuple[int, int]
"""What is remembered of one caller: the moment from which on it says nothing any more, in nanoseconds, and how much is
used up to then (only a fixed window counts that)."""


def to_ns(now_s: float) -> int:
    """A moment as the algorithms count it. Whole nanoseconds, so that they add and compare without rounding."""
    return int(now_s * NANOSECONDS)


def wait_s(wait_ns: int) -> float:
    """A waiting time that is long enough: rounded up to a millisecond.

    The microsecond on top pays for the rounding of float clocks, which at seconds since 1970 is a quarter of one.
    """
    return -(-(wait_ns + 1_000) // 1_000_000) / 1_000
