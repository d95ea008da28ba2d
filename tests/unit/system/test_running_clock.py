"""The clock of a node's event loop does not count the time in which the process did not run."""

import time

import attrs
import trio

from llmactors.system.running_clock import LONGEST_SLEEP_S, LONGEST_STEP_S, RunningClock


@attrs.define
class Reading:
    """A clock that a test sets."""

    s: float = 50.0

    def __call__(self) -> float:
        return self.s

    def advance(self, clock: RunningClock, *steps_s: float) -> float:
        """Lets time pass in steps; returns how much passed by `clock`."""
        began = clock.current_time()
        for step_s in steps_s:
            self.s += step_s
            clock.current_time()
        return clock.current_time() - began


def test_running_process_loses_no_time() -> None:
    reading = Reading()
    assert abs(reading.advance(RunningClock(reading), *[0.2] * 100) - 20) < 1e-6


def test_stop_counts_as_one_step() -> None:
    reading = Reading()
    clock = RunningClock(reading)
    assert abs(reading.advance(clock, 0.1, 30, 0.1, 3600) - 2 * (0.1 + LONGEST_STEP_S)) < 1e-6
    assert abs(clock.stopped_s - (3630 - 2 * LONGEST_STEP_S)) < 1e-6


def test_time_before_the_start_does_not_count() -> None:
    reading = Reading()
    clock = RunningClock(reading)
    reading.s += 9
    clock.start_clock()
    assert clock.stopped_s == 0


def test_loop_never_sleeps_past_its_next_look() -> None:
    clock = RunningClock(Reading())
    assert clock.deadline_to_sleep_time(float("inf")) == LONGEST_SLEEP_S
    assert clock.deadline_to_sleep_time(clock.current_time() + 0.1) < 0.11


def test_stopped_loop_ends_no_time_out() -> None:
    """The loop is held for longer than the time-out, which has to give its task that time again."""

    async def main() -> bool:
        with trio.move_on_after(LONGEST_STEP_S + 0.3) as patience:
            time.sleep(LONGEST_STEP_S + 0.5)  # noqa: ASYNC251 - the loop is to be late
            await trio.sleep(0.1)
        return patience.cancelled_caught

    assert not trio.run(main, clock=RunningClock())
