"""Bounds how much of a burst is worked on in one pass of the scheduler.

Trio runs every task that is ready before it looks at the time again. If hundreds of clients come at once, or hundreds
of streams end in one step, that takes a hundred milliseconds, and the tokens of all other streams are late by as much.
"""

import trio


class Turnstile:
    """Lets a few through at once, and of more than that some in each pass, in the order in which they came.

    Args:
        burst: So many are through at once, where nobody waits: small bursts are best worked on together.
        per_pass: So many of those that wait go on in each pass.
    """

    def __init__(self, *, burst: int, per_pass: int) -> None:
        self._burst = burst
        self._per_pass = per_pass
        self._entered = 0
        """In this pass."""
        self._waiting = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<Turnstile, {len(self._waiting)} waiting>"

    async def enter(self) -> None:
        """Returns at once where there is room in this pass: then it is no checkpoint."""
        if not self._entered:
            self._look_in_the_next_pass()
        if self._entered < self._burst and not self._waiting:
            self._entered += 1
        else:
            await self._waiting.park()

    def _look_in_the_next_pass(self) -> None:
        trio.lowlevel.current_trio_token().run_sync_soon(self._next_pass)

    def _next_pass(self) -> None:
        self._entered = len(self._waiting.unpark(count=self._per_pass))
        if self._entered:
            self._look_in_the_next_pass()
