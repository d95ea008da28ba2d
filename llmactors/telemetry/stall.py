"""Measures how late Trio wakes a sleeping task: whatever stalls the event loop stalls every token stream."""

import math
from collections.abc import Callable
from typing import Never

import trio

from llmactors.telemetry.logs import get_logger

_log = get_logger(__name__)
_LOG_EVERY_S = 10.0


async def watch_event_loop(
    report: Callable[[float], None], *, period_s: float = 0.05, threshold_s: float = 0.1
) -> Never:
    """Runs until it is cancelled.

    Args:
        report: Hears every measure: seconds of lateness, 0 or more.
        period_s: How long each sleep is. A stall shows without the part of it that fell into the sleep: at most this.
        threshold_s: From this lateness on there is a log line too, at most one in ten seconds: it tells the worst and
            the number of those since the line before.
    """
    last_line, worst_s, count = -math.inf, 0.0, 0
    while True:
        due = trio.current_time() + period_s
        await trio.sleep_until(due)
        now = trio.current_time()
        late_s = max(0.0, now - due)
        report(late_s)
        if late_s >= threshold_s:
            worst_s, count = max(worst_s, late_s), count + 1
        if count and now - last_line >= _LOG_EVERY_S:
            _log.warning("the event loop stalled", worst_s=round(worst_s, 3), stalls=count)
            last_line, worst_s, count = now, 0.0, 0
