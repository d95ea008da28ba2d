"""Calls the ledger's functions in Redis: once, until a timeout, or until the call succeeds."""

from collections.abc import Callable
from typing import Any

import trio

from llmactors.errors import Expired, NotFound, Unavailable
from llmactors.ledger.redis.library import LIBRARY, load_library
from llmactors.redislink.errors import NoSuchFunction, OutOfMemory
from llmactors.redislink.link import RedisLink

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.32


class LedgerFunctions:
    """The functions of one ledger, which all parts of a `RedisLedger` call.

    `packed` are the settings as the functions take them. `clock_ms` is a test's clock: the time since 1970, in
    milliseconds; with None the functions use the server's clock.
    """

    def __init__(
        self, link: RedisLink, prefix: str, packed: bytes, call_timeout_s: float, clock_ms: Callable[[], int] | None
    ) -> None:
        self.link = link
        self._prefix = prefix
        self._packed = packed
        self._call_timeout_s = call_timeout_s
        self._clock_ms = clock_ms

    def __repr__(self) -> str:
        return f"<LedgerFunctions under {self._prefix}, {self.link!r}>"

    async def call(self, operation: str, *parts: bytes | str | int) -> Any:
        """The reply to one call. Raises as `RedisLink.call`."""
        now = "" if self._clock_ms is None else self._clock_ms()
        call = ("FCALL", LIBRARY.function(operation), 1, self._prefix, now, self._packed, *parts)
        try:
            return await self.link.call(*call)
        except NoSuchFunction:
            # The server's functions were flushed, so the call was not executed.
            await load_library(self.link.call)
            return await self.link.call(*call)

    async def call_with_timeout(self, operation: str, *parts: bytes | str | int) -> Any:
        """The reply, after retries for at most `call_timeout_s`. Raises `Unavailable` then, or if Redis is full."""
        with trio.move_on_after(self._call_timeout_s):
            return await self.call_until_done(operation, *parts, gives_up_on=OutOfMemory)
        raise Unavailable("the ledger is away", retry_after_s=1.0)

    async def call_until_done(
        self, operation: str, *parts: bytes | str | int, gives_up_on: type[Exception] | tuple[()] = ()
    ) -> Any:
        """The reply, after as many retries as it takes, through any outage and any error reply. A repeated call is
        harmless, since all operations are idempotent. Raises `Unavailable` for an error of the type `gives_up_on`.
        """
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await self.call(operation, *parts)
            except gives_up_on as error:
                raise Unavailable("the ledger has no memory left; try again later", retry_after_s=5.0) from error
            except Unavailable:
                await trio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                await self.link.wait_up()


def expect_known(reply: list[Any]) -> list[Any]:
    """What follows "known" in a reply. Raises `Expired`, `NotFound` or `Unavailable` for another reply."""
    kind, *found = reply
    if kind == b"known":
        return found
    if kind == b"wrong":
        raise Unavailable("the ledger cannot read this request", retry_after_s=5.0)
    raise Expired if kind == b"gone" else NotFound("there is no such stream")
