"""Bounds how much of a burst is worked on at once.

Trio runs every task that is ready before it looks at the time again. If hundreds of clients come at once, or hundreds
of streams end in one step, that takes a hundred milliseconds, and the tokens of all other streams are late by as much.
"""

import trio

DOUBLE_AFTER_S = 1.0
"""As long as somebody waits, twice as many are let through after each such time: a burst may go slowly, but where more
come all the time than a few in each pass, a queue here would cost throughput, which long passes are good for."""


class BurstThrottle:
    """Lets a few through at once, and of more than that some in each pass, in the order in which they came.

    Args:
        burst: So many are through at once, where nobody waits: small bursts are best worked on together.
        per_pass: So many of those that wait go on in each pass of the scheduler, to begin with.
    """

    def __init__(self, *, burst: int, per_pass: int) -> None:
        self._burst = burst
        self._per_pass = per_pass
        self._entered = 0
        """In this pass."""
        self._waited_since = 0.0
        """Since when there has always been somebody who waits, on Trio's clock."""
        self._waiting = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<Turnstile, {len(self._waiting)} waiting>"

    @property
    def is_crowded(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    async def enter(self) -> None:
        """Returns at once where there is room: then it is no checkpoint."""
        if not self._entered:
            self._look_in_the_next_pass()
        if self._entered < self._burst and not self._waiting:
            self._entered += 1
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
