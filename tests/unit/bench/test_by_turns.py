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
    assert low < found.added_s < high
    # Both are spread over 50 ms; the median of 200 is known to a few.
    assert high - low < 0.03


def test_what_does_not_vary_is_known_exactly() -> None:
    found = compare([1.0] * 5, [1.5] * 5, random.Random(1))
    assert (found.direct_s, found.ours_s, found.added_s, found.interval_s) == (1.0, 1.5, 0.5, (0.5, 0.5))


async def test_tokens_of_one_step_are_one_beat(autojump_clock: MockClock) -> None:
    beat, heard = Beat(), list[float]()

    async def listen() -> None:
        while True:
            await beat.wait()
            heard.append(round(trio.current_time() - begun, 4))

    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        for _ in range(3):
            for _ in range(4):  # four streams, a little after one another
                beat.token()
                await trio.sleep(0.0001)
            await trio.sleep(0.0496)
        nursery.cancel_scope.cancel()
    assert heard == [0.0, 0.05, 0.1]
    assert beat.step_s == pytest.approx(0.05)
