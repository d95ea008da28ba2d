"""The kernel's timer ticks steadily between start and stop."""

import pytest
import trio

from llmactors.http.ticker import Ticker

pytestmark = pytest.mark.integration


async def test_ticks_come_at_the_interval() -> None:
    ticker = Ticker()
    ticker.start(0.01)
    begun = trio.current_time()
    for _ in range(5):
        await ticker.wait()
    assert trio.current_time() - begun >= 0.045
    ticker.close()


async def test_missed_ticks_count_as_one() -> None:
    ticker = Ticker()
    ticker.start(0.01)
    await trio.sleep(0.05)
    await ticker.wait()
    ticker.start(0.2)  # another interval begins anew
    with trio.move_on_after(0.05) as scope:
        await ticker.wait()
    assert scope.cancelled_caught
    ticker.close()


async def test_stopped_ticker_does_not_tick() -> None:
    ticker = Ticker()
    ticker.start(0.005)
    await ticker.wait()
    ticker.stop()
    with trio.move_on_after(0.05) as scope:
        await ticker.wait()
    assert scope.cancelled_caught
    ticker.close()
