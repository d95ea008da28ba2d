"""Measures how long the event loop keeps tasks waiting. Code that stalls the event loop stalls every token stream."""

import contextlib
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
    every_s: float = 0.05,
    threshold_s: float = 0.1,
    clock: Callable[[], float] = time.perf_counter,
) -> Never:
    """Measures until it is cancelled. The arguments are those of `LoopWatch`."""
    with BusyTaskSampler(clock=clock) as sampler, OwnThread() as thread:
        watch = LoopWatch(report, sampler, thread, every_s=every_s, threshold_s=threshold_s, clock=clock)
        trio.lowlevel.add_instrument(watch)
        try:
            await trio.sleep_forever()
        finally:
            with contextlib.suppress(KeyError):  # Trio removes an instrument that has raised an error
                trio.lowlevel.remove_instrument(watch)


class LoopWatch(trio.abc.Instrument):
    """Measures every pass of Trio's scheduler, from when its first task could run until all its tasks have run.

    A task that slept and measured how late it is woken would cost more, twenty wake-ups a second, and would see the
    rest of a pass only.

    Args:
        report: Is called after a pass, at most once in `every_s` seconds, or else at the next pass: with the longest
            wait of a task since the call before, in seconds, 0 or more.
        sampler: Is told when the loop should be through, and asked which task was in the way.
        thread: The times of the loop's thread.
        every_s: The time between two reports, in seconds.
        threshold_s: Waits from here on are logged as well, in at most one line a minute. A line has the longest wait,
            its cause and what to do, and the number of such waits since the line before.
        clock: The clock of the measures, in seconds. A node's own event loop does not count the time of a stall.
    """

    def __init__(
        self,
        report: Callable[[float], None],
        sampler: BusyTaskSampler,
        thread: OwnThread,
        *,
        every_s: float,
        threshold_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._report = report
        self._sampler = sampler
        self._thread = thread
        self._every_s = every_s
        self._threshold_s = threshold_s
        self._clock = clock
        now = clock()
        self._due = now
        """Since when a task could run, or will be able to."""
        self._longest_s = 0.0
        self._next_report = now + every_s
        self._spent_before = thread.now()
        """The times of the thread at the report before."""
        self._last_line = -math.inf
        self._worst_s = 0.0
        self._worst = {"cause": "", "task": ""}
        self._stalls = 0

    def __repr__(self) -> str:
        return f"<LoopWatch: {self._stalls} stalls since the last line>"

    def before_io_wait(self, timeout: float) -> None:
        """The tasks of a pass have run; the next one can run in `timeout` seconds, or at an event before."""
        now = self._clock()
        late_s = now - self._due
        self._due = self._sampler.due = now + timeout
        self._longest_s = max(self._longest_s, late_s)
        if now >= self._next_report:
            self._look(now)

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - Trio gives the argument
        """A pass begins, at its time, earlier because of an event, or later where the process was stopped."""
        now = self._clock()
        if now < self._due:
            self._due = self._sampler.due = now

    def _look(self, now: float) -> None:
        late_s, self._longest_s = self._longest_s, 0.0
        self._next_report = now + self._every_s
        before, self._spent_before = self._spent_before, self._thread.now()
        task = self._sampler.take() or _NO_TASK
        self._report(late_s)
        if late_s >= self._threshold_s:
            self._stalls += 1
            if late_s > self._worst_s:
                cause = explain_stall(late_s, self._spent_before.since(before), task)
                self._worst_s, self._worst = late_s, {"cause": cause, "task": task}
        if self._stalls and now - self._last_line >= _LOG_EVERY_S:
            _log.warning(
                "the event loop stalled, and with it every stream of this process",
                worst_s=round(self._worst_s, 3),
                stalls=self._stalls,
                **self._worst,
            )
            self._last_line, self._worst_s, self._stalls = now, 0.0, 0
