"""Bounds how much of a burst is worked on at once.

In one pass of its scheduler, Trio runs every task that is ready. If hundreds of clients come at once, or hundreds of
streams end in one step, a pass takes a hundred milliseconds, and the tokens of all other streams are late by as much.
"""

import trio

DOUBLE_AFTER_S = 1.0
"""While tasks wait, the number of tasks that go on in each pass doubles each time these seconds have passed. A burst
may be slow, but under a steady load of more than a few tasks in each pass, a queue here would cost throughput."""


class BurstThrottle:
    """Lets a few tasks go on at once, and of more tasks some in each pass, in the order in which they came.

    Args:
        burst: The number of tasks that go on in one pass while no task waits.
        per_pass: The number of waiting tasks that go on in each pass at first.
    """

    def __init__(self, *, burst: int, per_pass: int) -> None:
        self._burst = burst
        self._per_pass = per_pass
        self._entered = 0
        """The number of tasks that went on in this pass."""
        self._waited_since = 0.0
        """The time since which some task has always been waiting, on Trio's clock."""
        self._waiting = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<BurstThrottle, {len(self._waiting)} waiting>"

    @property
    def is_crowded(self) -> bool:
        """Whether a task waits."""
        return bool(self._waiting)

    def enter_nowait(self) -> bool:
        """Returns whether this task may go on at once. If not, the task must await `enter`."""
        if not self._entered:
            self._look_in_the_next_pass()
        if self._entered < self._burst and not self._waiting:
            self._entered += 1
            return True
        return False

    async def enter(self) -> None:
        """Waits for the turn of this task. Without a wait this is no checkpoint."""
        if self.enter_nowait():
            return
        if not self._waiting:
            self._waited_since = trio.current_time()
        await self._waiting.park()

    def _look_in_the_next_pass(self) -> None:
        trio.lowlevel.current_trio_token().run_sync_soon(self._next_pass)

    def _next_pass(self) -> None:
        doublings = int((trio.current_time() - self._waited_since) / DOUBLE_AFTER_S) if self._waiting else 0
        count = min(self._burst, self._per_pass << min(doublings, 16))
        self._entered = len(self._waiting.unpark(count=count))
        if self._entered:
            self._look_in_the_next_pass()
