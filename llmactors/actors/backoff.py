"""The wait before a restart. Pure: no clock, no global random."""

import random

import attrs


@attrs.frozen
class Backoff:
    """Exponential backoff with jitter: `first_s * factor**n`, at most `cap_s`, then spread by ±`jitter`.

    All times are in seconds. The first restart comes after `first_s`. After a run of `stable_s`, the next crash counts
    as the first one again.
    """

    first_s: float = 0.05
    factor: float = 2.0
    cap_s: float = 5.0
    jitter: float = 0.2
    stable_s: float = 10.0

    def delay_s(self, streak: int, rng: random.Random) -> float:
        """The wait before restart number `streak` of a streak of restarts, counted from 0."""
        try:
            delay = min(self.cap_s, self.first_s * self.factor**streak)
        except OverflowError:
            delay = self.cap_s
        return float(delay * (1 + self.jitter * (2 * rng.random() - 1)))


NO_BACKOFF = Backoff(first_s=0.0, cap_s=0.0)
"""No wait: for tests, and for children that are cheap to start."""
