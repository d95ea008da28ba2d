"""Refuses requests at once while the ledger's queue is known to be full.

Under overload most requests are refused, and a refusal that waits for a round trip to Redis comes as late as an
acceptance. After the ledger has refused a request because the queue was full, the hint reads the queue's length every
few milliseconds, and requests that had no room at the last reading are refused at once. The ledger decides on all
others. A reading is never trusted for longer than `TRUSTED_S`, so that a request is refused in spite of room for at
most that time, and mostly for `LOOK_EVERY_S` and a round trip.
"""

import math
from collections.abc import Awaitable, Callable, Sequence

import trio

from llmactors.errors import LlmactorsError
from llmactors.ledger import LedgerStatistics

LOOK_EVERY_S = 0.02
TRUSTED_S = 0.25
"""A reading that began longer ago is ignored, and the ledger decides."""
WATCH_S = 1.0
"""The time after the last refusal in which the queue is still read."""


class QueueHint:
    """What is known of the room in the queue. A task must run `run`.

    Args:
        most: The queue's bound on the number of requests.
        most_bytes: The queue's bound on the bytes of its requests.
        look: Reads the ledger's figures. A reading must see all requests that were sent to the ledger before.
    """

    def __init__(self, most: int, most_bytes: int, look: Callable[[], Awaitable[LedgerStatistics]]) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._look = look
        self._begun = -math.inf
        """The time at which the last completed reading began, on Trio's clock."""
        self._left = 0
        self._left_bytes = 0
        self._sent = 0
        """The number of requests that this gateway has ever sent to the ledger."""
        self._sent_bytes = 0
        self._refused_at = -math.inf
        self._needed = trio.Event()

    def __repr__(self) -> str:
        return f"<QueueHint: room for {self._left} requests, {self._left_bytes} bytes, as of {self._begun:g}>"

    def lacks(self, sizes: Sequence[int]) -> bool:
        """Whether the last reading of the queue had too little room for new requests of these sizes, in bytes."""
        now = trio.current_time()
        fits = len(sizes) <= self._left and sum(sizes) <= self._left_bytes
        if fits or now - self._begun > TRUSTED_S:
            return False
        self._refused_at = now
        return True

    def send(self, sizes: Sequence[int]) -> None:
        """Notes that requests of these sizes, in bytes, are sent to the ledger now."""
        self._left -= len(sizes)
        self._left_bytes -= sum(sizes)
        self._sent += len(sizes)
        self._sent_bytes += sum(sizes)

    def refused(self) -> None:
        """Notes that the ledger has refused a request because the queue was full."""
        self._refused_at = trio.current_time()
        self._needed.set()

    async def run(self) -> None:
        """Reads the queue's length while requests are refused, until cancelled."""
        while True:
            await self._needed.wait()
            while trio.current_time() - self._refused_at < WATCH_S:
                await self._look_once()
                await trio.sleep(LOOK_EVERY_S)
            self._needed = trio.Event()

    async def _look_once(self) -> None:
        begun, sent, sent_bytes = trio.current_time(), self._sent, self._sent_bytes
        try:
            seen = await self._look()
        except LlmactorsError:
            return  # the next request that is sent to the ledger reports the error
        self._begun = begun
        self._left = self._most - seen.queued - (self._sent - sent)
        self._left_bytes = self._most_bytes - seen.queued_bytes - (self._sent_bytes - sent_bytes)
