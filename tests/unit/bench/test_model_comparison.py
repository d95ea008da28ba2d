"""The comparison of two servers of a real model by turns."""

import random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bench.model_comparison import FirstToken, StepTimer


def test_added_time_lies_in_its_interval() -> None:
    rng = random.Random(1)
    times_s = [rng.uniform(0.1, 0.15) for _ in range(200)]
    found = FirstToken.of([(value, value + 0.003) for value in times_s], rng)
    assert found.added_s == pytest.approx(0.003)
    low, high = found.interval_s
    assert low <= found.added_s + 1e-12
    assert found.added_s <= high + 1e-12
    # The times are spread over 50 ms, but those of both servers in the same way.
    assert high - low < 0.002


def test_added_time_of_constant_times_is_exact() -> None:
    found = FirstToken.of([(1.0, 1.5)] * 5, random.Random(1))
    assert (found.direct_s, found.ours_s, found.added_s, found.interval_s) == (1.0, 1.5, 0.5, (0.5, 0.5))


async def test_step_timer_ignores_one_long_step(autojump_clock: MockClock) -> None:
    timer, seen = StepTimer(), list[float]()

    async def listen() -> None:
        while True:
            await timer.wait()
            seen.append(round(timer.step_s, 4))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        for step_s in (0.05, 0.05, 0.05, 0.15, 0.05, 0.05):
            await trio.sleep(step_s)
            timer.token()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert seen[2:] == [0.05] * 4
