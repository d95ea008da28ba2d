"""Waits in synchronous tests for what other processes do."""

import time
from collections.abc import Callable


def soon(condition: Callable[[], bool], within_s: float = 10.0, *, what: str = "the condition") -> None:
    """Waits until `condition` holds, and fails after `within_s`."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not hold within {within_s:g} s"
        time.sleep(0.02)
