"""The throttle lets a burst of requests enter little by little, in order, and loses none."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from llmactors.http.throttle import DOUBLE_AFTER_S, BurstThrottle
from tests.support.passes import counted_passes


async def enter_all(throttle: BurstThrottle, count: int) -> list[int]:
    """Starts `count` tasks at once; returns how many entered in each pass of the scheduler, from the first on."""
    entered: list[int] = []

    async def one() -> None:
        await throttle.enter()
        entered.append(passes.now)

    with counted_passes() as passes:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(one)
    return [entered.count(at) for at in range(entered[0], entered[-1] + 1)]


async def test_few_requests_enter_at_once() -> None:
    assert await enter_all(BurstThrottle(burst=8, per_pass=2), 8) == [8]


async def test_some_of_many_requests_enter_in_each_pass() -> None:
    first, *others = await enter_all(BurstThrottle(burst=8, per_pass=2), 30)
    assert first == 8
    # One pass may go by before the first waiting task enters; from then on some enter in each pass.
    assert [count for count in others if count] == [2] * 11
    assert len(others) <= 12


async def test_requests_enter_in_order() -> None:
    throttle, came, went = BurstThrottle(burst=1, per_pass=1), list[int](), dict[int, int]()

    async def one(place: int) -> None:
        came.append(place)
        await throttle.enter()
        went[place] = passes.now

    with counted_passes() as passes:
        async with trio.open_nursery() as nursery:
            for place in range(20):
                nursery.start_soon(one, place)
                for _ in range(place % 3):
                    await trio.lowlevel.checkpoint()
    assert [went[place] for place in came] == sorted(went.values())


async def test_lone_request_enters_without_a_checkpoint() -> None:
    throttle = BurstThrottle(burst=1, per_pass=1)
    for _ in range(3):
        coroutine = throttle.enter()
        try:
            coroutine.send(None)
        except StopIteration:
            pass
        else:
            raise AssertionError("it waited")
        await wait_all_tasks_blocked()


async def test_cancelled_request_delays_no_other() -> None:
    throttle = BurstThrottle(burst=1, per_pass=1)
    async with trio.open_nursery() as nursery:
        await throttle.enter()
        with trio.CancelScope() as scope:
            scope.cancel()
            await throttle.enter()
        assert scope.cancelled_caught
        nursery.start_soon(throttle.enter)
    assert "0 waiting" in repr(throttle)


async def test_more_requests_enter_the_longer_one_waits(autojump_clock: MockClock) -> None:
    throttle, entered = BurstThrottle(burst=8, per_pass=1), list[int]()

    async def one() -> None:
        await throttle.enter()
        entered.append(passes.now)

    async with trio.open_nursery() as nursery:
        with counted_passes() as passes:
            for _ in range(8 + 3):
                nursery.start_soon(one)
            await wait_all_tasks_blocked()
            assert throttle.is_crowded == (len(entered) < 11)
    assert [entered.count(at) for at in sorted(set(entered))] == [8, 1, 1, 1]


async def test_lasting_queue_is_let_through_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test sets the clock, since its passes take no time."""
    now = 0.0
    monkeypatch.setattr(trio, "current_time", lambda: now)
    throttle, entered = BurstThrottle(burst=8, per_pass=1), list[float]()

    async def one() -> None:
        await throttle.enter()
        entered.append(now)

    async def tick() -> None:
        nonlocal now
        while len(entered) < 30:
            now += DOUBLE_AFTER_S
            for _ in range(3):
                await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        for _ in range(30):
            nursery.start_soon(one)
    counts = [entered.count(at) for at in sorted(set(entered))]
    assert counts[1:] != [1] * 22
    assert len(counts) < 12
