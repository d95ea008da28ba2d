"""What this gateway knows of the room in a queue that is a trip away: under overload most requests are refused, and a
refusal that has to wait for the ledger comes no sooner than an acceptance.

As soon as the ledger has refused one for want of room, this looks at the queue every few milliseconds, and what finds
no room by the last look is refused at once. The ledger still decides on all others. What is known is never more than
`TRUSTED_S` old: nobody is refused for longer than that where there is room, and mostly for `LOOK_EVERY_S` and a trip.
"""

import math
from collections.abc import Awaitable, Callable, Sequence

import trio

from llmactors.errors import LlmactorsError
from llmactors.ledger import LedgerStatistics

LOOK_EVERY_S = 0.02
TRUSTED_S = 0.25
"""A look that was begun longer ago counts for nothing: the ledger is asked, whatever it showed."""
WATCH_S = 1.0
"""How long to look on after the last refusal."""


class QueueHint:
    """Run `run` as a task, beside the requests that ask.

    Args:
        most: The queue's bound on requests.
        most_bytes: Its bound on their bytes.
        look: Says what is queued now. It must see whatever was sent to the ledger before it.
    """

    def __init__(self, most: int, most_bytes: int, look: Callable[[], Awaitable[LedgerStatistics]]) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._look = look
        self._begun = -math.inf
        """When the last look that has an answer was begun."""
        self._left = 0
        self._left_bytes = 0
        self._sent = 0
        """Requests that the ledger was ever asked to take from here."""
        self._sent_bytes = 0
        self._refused_at = -math.inf
        self._needed = trio.Event()

    def __repr__(self) -> str:
        return f"<Room for {self._left} requests, {self._left_bytes} bytes, as of {self._begun:g}>"

    def lacks(self, sizes: Sequence[int]) -> bool:
        """Whether new requests of so many bytes each would certainly have been refused just now: then refuse them."""
        now = trio.current_time()
        fits = len(sizes) <= self._left and sum(sizes) <= self._left_bytes
        if fits or now - self._begun > TRUSTED_S:
            return False
        self._refused_at = now
        return True

    def send(self, sizes: Sequence[int]) -> None:
        """The ledger is asked to take requests of so many bytes each, now."""
        self._left -= len(sizes)
        self._left_bytes -= sum(sizes)
        self._sent += len(sizes)
        self._sent_bytes += sum(sizes)

    def refused(self) -> None:
        """The ledger had no room."""
        self._refused_at = trio.current_time()
        self._needed.set()

    async def run(self) -> None:
        """For ever."""
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
            return  # whoever asks the ledger hears of it
        self._begun = begun
        self._left = self._most - seen.queued - (self._sent - sent)
        self._left_bytes = self._most_bytes - seen.queued_bytes - (self._sent_bytes - sent_bytes)
