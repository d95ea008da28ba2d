"""How two servers are compared that are asked by turns."""

import random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bench.by_turns import Beat, compare


def test_a_difference_of_medians_comes_with_where_it_lies() -> None:
    rng = random.Random(1)
    before = [rng.uniform(0.1, 0.15) for _ in range(200)]
    found = compare(before, [value + 0.003 for value in before], rng)
    assert found.added_s == pytest.approx(0.003)
    low, high = found.interval_s
    assert low <= found.added_s + 1e-12
    assert found.added_s <= high + 1e-12
    # Spread over 50 ms, but both alike.
    assert high - low < 0.002


def test_what_does_not_vary_is_known_exactly() -> None:
    found = compare([1.0] * 5, [1.5] * 5, random.Random(1))
    assert (found.direct_s, found.ours_s, found.added_s, found.interval_s) == (1.0, 1.5, 0.5, (0.5, 0.5))


async def test_a_beat_tells_how_long_a_step_takes(autojump_clock: MockClock) -> None:
    """One that also reads a prompt does not count."""
    beat, heard = Beat(), list[float]()

    async def listen() -> None:
        while True:
            await beat.wait()
            heard.append(round(beat.step_s, 4))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        for step_s in (0.05, 0.05, 0.05, 0.15, 0.05, 0.05):
            await trio.sleep(step_s)
            beat.token()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert heard[2:] == [0.05] * 4
