"""Shutdown in phases under one deadline."""

import math
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from llmactors.actors import Phase, run_phases


def lasting(seconds: float, log: list[str] | None = None) -> Callable[[], Awaitable[object]]:
    async def phase() -> None:
        if log is not None:
            log.append("begun")
        await trio.sleep(seconds)

    return phase


async def failing() -> None:
    await trio.sleep(1)
    raise ValueError("x")


async def failing_when_cancelled() -> None:
    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("cleanup")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(child)
        nursery.start_soon(trio.sleep_forever)


async def test_phases_run_in_order_after_failures_too(autojump_clock: MockClock) -> None:
    phases = [
        Phase("unbind", lasting(1)),
        Phase("drain", lasting(math.inf), limit_s=5),
        Phase("stop", failing),
        Phase("flush", lasting(2)),
    ]
    reports = await run_phases(phases, overall_s=20)
    assert [(report.name, report.seconds, report.outcome) for report in reports] == [
        ("unbind", 1, "done"),
        ("drain", 5, "timeout"),
        ("stop", 1, "ValueError: x"),
        ("flush", 2, "done"),
    ]


async def test_phases_after_the_deadline_run_to_their_first_wait(
    autojump_clock: MockClock,
) -> None:
    begun: list[str] = []
    phases = [Phase("drain", lasting(math.inf)), Phase("stop", lasting(1, begun)), Phase("flush", lasting(0, begun))]
    reports = await run_phases(phases, overall_s=7)
    assert [(report.seconds, report.outcome) for report in reports] == [(7, "timeout"), (0, "timeout"), (0, "timeout")]
    assert begun == ["begun", "begun"]


async def test_next_phase_runs_after_a_failed_cancel(
    autojump_clock: MockClock,
) -> None:
    reports = await run_phases(
        [Phase("drain", failing_when_cancelled, limit_s=3), Phase("flush", lasting(1))], overall_s=9
    )
    assert [report.outcome for report in reports] == ["timeout", "done"]


async def test_cancel_from_outside_ends_the_shutdown(autojump_clock: MockClock) -> None:
    begun: list[str] = []
    with trio.move_on_after(2) as scope:
        await run_phases([Phase("drain", lasting(5)), Phase("flush", lasting(0, begun))], overall_s=20)
    assert scope.cancelled_caught
    assert begun == []


async def test_interrupt_in_a_phase_is_raised(autojump_clock: MockClock) -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - a group or a bare exception
        await run_phases([Phase("drain", interrupted)], overall_s=20)
    assert isinstance(caught.value, KeyboardInterrupt)
