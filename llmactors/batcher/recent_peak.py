"""The highest value of the last moments. Pure: `now` is an argument, in seconds."""

import math


class RecentPeak:
    """The highest value that was noted in the last `window_s` seconds, or in up to twice this time."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._began = -math.inf
        self._highest = 0
        self._before = 0
        """The highest value of the window before."""

    def __repr__(self) -> str:
        return f"<RecentPeak {max(self._highest, self._before)}>"

    def note(self, value: int, now: float) -> None:
        """Notes a value."""
        self._move_on(now)
        self._highest = max(self._highest, value)

    def highest(self, now: float) -> int:
        """The highest value lately; 0 where none was noted."""
        self._move_on(now)
        return max(self._highest, self._before)

    def _move_on(self, now: float) -> None:
        passed = now - self._began
        if passed >= self._window_s:
            self._before = self._highest if passed < 2 * self._window_s else 0
            self._began, self._highest = now, 0
