"""The clock of a node's event loop, by which every time-out, lease and grace of the process is measured."""

import time
from collections.abc import Callable

from trio.abc import Clock

LONGEST_SLEEP_S = 0.25
"""The loop reads the clock at least this often, also while it waits for the network."""
LONGEST_STEP_S = 0.5
"""The most time that passes from one reading of the clock to the next."""


class RunningClock(Clock):
    """Counts the time in which the process runs. Time in which the process was stopped, or its loop was late, does not
    pass.

    After a stop (SIGSTOP, swapping, a busy host) or a long handler, everything that the loop would have done in time
    is still to be done: replies lie unread in sockets, and heartbeats are not sent yet. On a common clock each time-out
    would end at this moment, before the loop can do any of that. Pass an instance as `trio.run(…, clock=…)`.

    `read` is the clock that is corrected, in seconds, monotonic.
    """

    def __init__(self, read: Callable[[], float] = time.perf_counter) -> None:
        self._read = read
        self._last = read()
        self._stopped_s = 0.0

    def __repr__(self) -> str:
        return f"<RunningClock, stopped for {self._stopped_s:.1f} s>"

    @property
    def stopped_s(self) -> float:
        """The time that did not count so far, in seconds."""
        return self._stopped_s

    def start_clock(self) -> None:
        self._last = self._read()

    def current_time(self) -> float:
        # Trio reads the clock dozens of times per request, so the usual case takes few steps.
        reading = self._read()
        step_s = reading - self._last
        if step_s > LONGEST_STEP_S:
            self._stopped_s += step_s - LONGEST_STEP_S
        self._last = reading
        return reading - self._stopped_s

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return min(deadline - self.current_time(), LONGEST_SLEEP_S)
