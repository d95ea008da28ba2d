"""A stall of the event loop is measured, and logged at a bounded rate."""

import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import pytest
import structlog.testing
import trio

from llmactors.telemetry import watch_event_loop
from llmactors.telemetry.busy_task import BusyTaskSampler
from llmactors.telemetry.stall import LoopWatch
from llmactors.telemetry.thread_time import OwnThread, ThreadTime, explain_stall


class Loop:
    """Passes of an event loop that take as long as a test says. Each call is one pass, and the wait before it."""

    def __init__(self, watch: Callable[["Loop"], LoopWatch]) -> None:
        self.now = 100.0
        self.watch = watch(self)

    def clock(self) -> float:
        return self.now

    def turn(self, work_s: float, *, timeout_s: float = 0.05, waited_s: float = 0.05) -> None:
        self.watch.before_io_wait(timeout_s)
        self.now += waited_s
        self.watch.after_io_wait(timeout_s)
        self.now += work_s


def stalls(turns: Sequence[Callable[[Loop], None]]) -> tuple[list[float], list[MutableMapping[str, Any]]]:
    """Runs the passes. Returns the reports and the log lines."""
    reports: list[float] = []

    def watch(loop: Loop) -> LoopWatch:
        sampler, thread = BusyTaskSampler(clock=loop.clock), OwnThread()
        return LoopWatch(reports.append, sampler, thread, every_s=0.05, threshold_s=0.1, clock=loop.clock)

    with structlog.testing.capture_logs() as lines:
        loop = Loop(watch)
        for turn in (*turns, of(0.0)):
            turn(loop)
    return [round(late_s, 6) for late_s in reports], lines


def of(work_s: float, *, timeout_s: float = 0.05, waited_s: float = 0.05) -> Callable[[Loop], None]:
    return lambda loop: loop.turn(work_s, timeout_s=timeout_s, waited_s=waited_s)


def test_every_long_pass_is_reported() -> None:
    reports, _ = stalls([of(0.0), of(0.03), of(0.5)])
    assert reports == [0.0, 0.03, 0.5]


def test_late_end_of_wait_counts_as_stall() -> None:
    """A process that was stopped while it waited for the network."""
    assert stalls([of(0.0), of(0.1, waited_s=0.45)])[0] == [0.0, 0.5]


def test_wait_that_an_event_ends_is_no_stall() -> None:
    assert stalls([of(0.01, timeout_s=0.25, waited_s=0.1)])[0] == [0.01]


def test_report_has_the_longest_of_many_short_passes() -> None:
    assert stalls([of(work_s, timeout_s=0.0, waited_s=0.0) for work_s in (0.01, 0.02, 0.005, 0.015)])[0] == [0.02]


@pytest.mark.parametrize(("late_s", "lines"), [(0.099, 0), (0.101, 1)])
def test_only_stalls_over_the_threshold_are_logged(late_s: float, lines: int) -> None:
    assert len(stalls([of(late_s)])[1]) == lines


def test_many_stalls_make_few_lines_with_worst_and_count() -> None:
    reports, lines = stalls([of(late_s) for late_s in (0.2, 0.5, 0.3, *[0.0] * 1300)])
    assert len(reports) == 1303
    assert [(line["worst_s"], line["stalls"]) for line in lines] == [(0.2, 1), (0.5, 2)]
    assert {line["log_level"] for line in lines} == {"warning"}


async def test_watch_ends_with_its_task() -> None:
    """A task that reports nothing any more must not go on measuring."""
    reports: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_event_loop, reports.append)
        with trio.fail_after(10):
            while not reports:  # noqa: ASYNC110 - any pass may bring the report
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    known = len(reports)
    await trio.sleep(0.06)
    assert len(reports) == known


async def hold_the_loop(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def sleep_in_the_loop(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - a mistake of a backend


@pytest.mark.parametrize(
    ("cpu_s", "waited_s", "task", "says"),
    [
        (0.2, 0.3, "x.work", "this process got 40 % of the core that it wanted: give the process more CPU"),
        (0.45, 0.05, "x.work", "x.work held the loop with its own computation"),
        (0.45, None, "", "a task that was not seen held the loop"),
        (0.0, 0.01, "x.work", "x.work waited inside of the loop"),
        (0.0, 0.0, "", "the process was stopped"),
    ],
)
def test_stall_is_explained_with_what_to_do(cpu_s: float, waited_s: float | None, task: str, says: str) -> None:
    assert explain_stall(0.5, ThreadTime(cpu_s, waited_s), task).startswith(says)


def test_time_on_the_core_is_counted() -> None:
    with OwnThread() as thread:
        before = thread.now()
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        spent = thread.now().since(before)
    assert 0.015 <= spent.cpu_s < 1
    assert spent.waited_s is None or spent.waited_s >= 0


@pytest.mark.parametrize("hold", [hold_the_loop, sleep_in_the_loop])
async def test_stall_line_names_the_task(hold: Callable[[float], Awaitable[None]]) -> None:
    with structlog.testing.capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_event_loop, lambda _: None)
            await trio.sleep(0.01)
            nursery.start_soon(hold, 0.3)
            with trio.fail_after(10):
                while not lines:  # noqa: ASYNC110 - the line is what is waited for
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
    assert lines[0]["worst_s"] >= 0.1
    assert "_the_loop, in " in lines[0]["task"]
    assert "test_stall.py:" in lines[0]["task"]
