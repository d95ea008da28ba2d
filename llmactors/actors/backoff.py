"""How long to wait before a restart. Pure: no clock, no global random."""

import random

import attrs


@attrs.frozen
class Backoff:
    """Exponential with jitter: `first_s * factor**n`, capped, then spread by ±`jitter`. All times in seconds.

    The first restart comes after `first_s`; a child that then runs for `stable_s` starts over from there.
    """

    first_s: float = 0.05
    factor: float = 2.0
    cap_s: float = 5.0
    jitter: float = 0.2
    stable_s: float = 10.0

    def delay_s(self, streak: int, rng: random.Random) -> float:
        """The wait before restart number `streak` in a row, counted from 0."""
        try:
            delay = min(self.cap_s, self.first_s * self.factor**streak)
        except OverflowError:
            delay = self.cap_s
        return float(delay * (1 + self.jitter * (2 * rng.random() - 1)))


NO_BACKOFF = Backoff(first_s=0.0, cap_s=0.0)
"""Restart at once, for tests and for children that cost nothing to start."""
