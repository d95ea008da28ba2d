"""Calls of the ledger's functions in Redis: once, for a while, or for as long as it takes."""

from collections.abc import Callable
from typing import Any

import trio

from llmactors.errors import Expired, NotFound, Unavailable
from llmactors.ledger.redis.library import LIBRARY, load_library
from llmactors.redislink import RedisLink
from llmactors.redislink.errors import NoSuchFunction, OutOfMemory


class Calls:
    """What all parts of a `RedisLedger` call Redis by.

    `packed` are the settings as the functions take them. `clock_ms` gives the time since 1970, in milliseconds, to
    tests; None leaves it to the server.
    """

    def __init__(
        self, link: RedisLink, prefix: str, packed: bytes, patience_s: float, clock_ms: Callable[[], int] | None
    ) -> None:
        self.link = link
        self._prefix = prefix
        self._packed = packed
        self._patience_s = patience_s
        self._clock_ms = clock_ms

    def __repr__(self) -> str:
        return f"<Calls under {self._prefix}, {self.link!r}>"

    async def call(self, operation: str, *parts: bytes | str | int) -> Any:
        """Once. Raises as `RedisLink.call`."""
        now = "" if self._clock_ms is None else self._clock_ms()
        call = ("FCALL", LIBRARY.function(operation), 1, self._prefix, now, self._packed, *parts)
        try:
            return await self.link.call(*call)
        except NoSuchFunction:
            # Somebody has flushed the functions. It was not executed.
            await load_library(self.link.call)
            return await self.link.call(*call)

    async def ask(self, operation: str, *parts: bytes | str | int) -> Any:
        """For as long as a client may wait. Raises `Unavailable`."""
        with trio.move_on_after(self._patience_s):
            return await self.insist(operation, *parts, gives_up_on=OutOfMemory)
        raise Unavailable("the ledger is away", retry_after_s=1.0)

    async def insist(
        self, operation: str, *parts: bytes | str | int, gives_up_on: type[Exception] | tuple[()] = ()
    ) -> Any:
        """Until it is done. All operations may be done twice, so what became of a lost one does not matter."""
        while True:
            try:
                return await self.call(operation, *parts)
            except gives_up_on as error:
                raise Unavailable("the ledger has no memory left; try again later", retry_after_s=5.0) from error
            except Unavailable:
                await trio.sleep(0.02)
                await self.link.wait_up()


def expect_known(reply: list[Any]) -> list[Any]:
    """What follows on "known" in a reply. Raises `Expired` or `NotFound`."""
    kind, *found = reply
    if kind == b"known":
        return found
    raise Expired if kind == b"gone" else NotFound("there is no such stream")
