"""A stall of the event loop is measured, and logged at a bounded rate."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

import pytest
import structlog.testing
import trio
import trio.testing

from llmactors.telemetry import watch_event_loop
from llmactors.telemetry.thread_time import OwnThread, ThreadTime, explain_stall


async def stalls(
    clock: trio.testing.MockClock, delays_s: list[float]
) -> tuple[list[float], list[MutableMapping[str, Any]]]:
    """Wakes the watcher late by each of `delays_s`. Returns the reports and the log lines."""
    reports: list[float] = []
    with structlog.testing.capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(watch_event_loop, reports.append, clock=trio.current_time))
            for delay_s in delays_s:
                await trio.testing.wait_all_tasks_blocked()
                clock.jump(0.05 + delay_s)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    return [round(late_s, 6) for late_s in reports], lines


async def test_every_measure_of_lateness_is_reported(mock_clock: trio.testing.MockClock) -> None:
    reports, _ = await stalls(mock_clock, [0.0, 0.03, 0.5])
    assert reports == [0.0, 0.03, 0.5]


@pytest.mark.parametrize(("late_s", "lines"), [(0.099, 0), (0.101, 1)])
async def test_only_stalls_over_the_threshold_are_logged(
    late_s: float, lines: int, mock_clock: trio.testing.MockClock
) -> None:
    assert len((await stalls(mock_clock, [late_s]))[1]) == lines


async def test_many_stalls_make_few_lines_with_worst_and_count(
    mock_clock: trio.testing.MockClock,
) -> None:
    reports, lines = await stalls(mock_clock, [0.2, 0.5, 0.3, *[0.0] * 1300])
    assert len(reports) == 1303
    assert [(line["worst_s"], line["stalls"]) for line in lines] == [(0.2, 1), (0.5, 2)]
    assert {line["log_level"] for line in lines} == {"warning"}


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
