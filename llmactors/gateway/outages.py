"""How a request that was accepted before waits for a ledger that is away."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
import trio

from llmactors.errors import Unavailable

RETRY_S = 0.2
TRIES = 4
"""So often is a call tried while the whole ledger is said to be there: it may have gone or come a moment ago."""
T = TypeVar("T")


@attrs.frozen
class Outages:
    """Waits for the ledger. A new request is refused while the ledger is away. One that an earlier gateway has accepted
    goes on when the ledger is back, as the streams of a gateway do that lives through the outage.
    """

    _ledger_is_whole: Callable[[], bool]
    """Whether no part of the ledger is away."""

    async def through(self, call: Callable[[], Awaitable[T]]) -> T:
        """Makes a call, which can be repeated, until the ledger answers."""
        tries = 0
        while True:
            try:
                return await call()
            except Unavailable:
                tries = tries + 1 if self._ledger_is_whole() else 0
                if tries >= TRIES:
                    raise
            await trio.sleep(RETRY_S)
