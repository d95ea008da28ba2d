"""Measures how late Trio wakes a sleeping task. Code that stalls the event loop stalls every token stream."""

import math
import time
from collections.abc import Callable
from typing import Never

import trio

from llmactors.telemetry.busy_task import BusyTaskSampler
from llmactors.telemetry.logs import get_logger
from llmactors.telemetry.thread_time import OwnThread, explain_stall

_log = get_logger(__name__)
_LOG_EVERY_S = 60.0
_NO_TASK = ""


async def watch_event_loop(
    report: Callable[[float], None],
    *,
    period_s: float = 0.05,
    threshold_s: float = 0.1,
    clock: Callable[[], float] = time.perf_counter,
) -> Never:
    """Measures until it is cancelled.

    Args:
        report: Is called with each measure: how late the task was woken, in seconds, 0 or more.
        period_s: The time of each sleep. A stall is measured too short by the part that falls into the sleep.
        threshold_s: Measures from here on are logged as well, in at most one line a minute. A line has the
            longest stall, the cause of that stall and what to do, and the number of stalls since the line before.
        clock: The clock of the measures, in seconds. A node's own event loop does not count the time of a stall.
    """
    last_line, worst_s, worst, count = -math.inf, 0.0, {"cause": "", "task": ""}, 0
    with BusyTaskSampler() as sampler, OwnThread() as thread:
        while True:
            due, before = clock() + period_s, thread.now()
            sampler.expect(period_s)
            await trio.sleep(period_s)
            now = clock()
            late_s = max(0.0, now - due)
            report(late_s)
            if late_s >= threshold_s:
                task = sampler.expect(period_s) or _NO_TASK
                count += 1
                if late_s > worst_s:
                    spent = thread.now().since(before)
                    worst_s, worst = late_s, {"cause": explain_stall(late_s, spent, task), "task": task}
            if count and now - last_line >= _LOG_EVERY_S:
                _log.warning(
                    "the event loop stalled, and with it every stream of this process",
                    worst_s=round(worst_s, 3),
                    stalls=count,
                    **worst,
                )
                last_line, worst_s, count = now, 0.0, 0
