"""Figures of the recent past: percentiles over a sliding window, and a maximum that is forgotten. Pure."""

import collections
import math
from collections.abc import Sequence


class RecentPercentiles:
    """Percentiles of the last `max_values` values that are at most `max_age_s` old. `percentiles` sorts the values."""

    def __init__(self, max_values: int = 1024, max_age_s: float = 300.0) -> None:
        self._max_age_s = max_age_s
        self._values: collections.deque[tuple[float, float]] = collections.deque(maxlen=max_values)

    def add(self, value: float, now: float) -> None:
        self._values.append((now, value))

    def percentiles(self, fractions: Sequence[float], now: float) -> list[float]:
        """For each fraction, the smallest value with at least this fraction of all values at or below it; else NaN."""
        while self._values and now - self._values[0][0] > self._max_age_s:
            self._values.popleft()
        ordered = sorted(value for _, value in self._values)
        if not ordered:
            return [math.nan] * len(fractions)
        return [ordered[max(0, math.ceil(fraction * len(ordered)) - 1)] for fraction in fractions]

    def __repr__(self) -> str:
        return f"<RecentPercentiles of {len(self._values)} values>"


class RecentMaximum:
    """The largest value of the last one to two times `window_s`; 0 if there was none. Keeps two numbers only."""

    def __init__(self, window_s: float = 60.0) -> None:
        self._window_s = window_s
        self._window = 0
        self._current = 0.0
        self._previous = 0.0

    def add(self, value: float, now: float) -> None:
        self._turn(now)
        self._current = max(self._current, value)

    def value(self, now: float) -> float:
        self._turn(now)
        return max(self._current, self._previous)

    def _turn(self, now: float) -> None:
        window = int(now // self._window_s)
        if window > self._window:
            self._previous = self._current if window == self._window + 1 else 0.0
            self._current = 0.0
            self._window = window

    def __repr__(self) -> str:
        return f"<RecentMaximum {max(self._current, self._previous):g}>"
