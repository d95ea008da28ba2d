"""One reader's position in a log that is in this process."""

from collections.abc import Callable
from typing import Self

import trio

from llmactors.ledger.core.token_log import TokenLog
from llmactors.ledger.values import LogSlice


class LogFollower:
    """A `Follower` of a `TokenLog`. The follower keeps the log in memory, so it never misses an entry.

    Open a follower at most once, since the log counts its open followers. The terminal event is taken once; after that
    `take` returns nothing, and the `wait_…` methods return at once.
    """

    def __init__(self, log: TokenLog, after: int, readers_changed: Callable[[], None]) -> None:
        self._log = log
        self._cursor = after
        self._readers_changed = readers_changed
        self._end_taken = False
        self._on_change: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<LogFollower of {self._log!r} at {self._cursor}>"

    def __enter__(self) -> Self:
        self._log.readers += 1
        self._readers_changed()
        return self

    def __exit__(self, *exc: object) -> None:
        self.listen(None)
        self._log.readers -= 1
        self._readers_changed()

    @property
    def cursor(self) -> int:
        return self._cursor

    def take(self) -> LogSlice:
        """Returns all entries after the cursor, and moves the cursor past them."""
        log, cursor = self._log, self._cursor
        if log.end is None:  # nearly always: as below, without a call for each token of each stream
            deltas = log.tokens[cursor:]
            self._cursor = cursor + len(deltas)
            return LogSlice(cursor + 1, deltas)
        if self._end_taken:
            return LogSlice(cursor + 1, ())
        taken = log.after(cursor)
        self._cursor = taken.end_seq
        self._end_taken = True
        return taken

    def listen(self, on_change: Callable[[], None] | None) -> None:
        """Registers `on_change`, to be called whenever the log grows; None removes the callback."""
        if self._on_change is not None:
            self._log.listeners = tuple(each for each in self._log.listeners if each is not self._on_change)
        self._on_change = on_change
        if on_change is not None:
            self._log.listeners += (on_change,)

    async def wait_more(self) -> None:
        """Returns once `take` would return something, or never will again. A checkpoint."""
        if not self._is_at_tip():
            await trio.lowlevel.checkpoint()
            return
        # This takes more than one turn if a client asked for entries far ahead of the log.
        while self._is_at_tip():
            await self._log.wait_growth()

    async def wait_end(self) -> None:
        """Returns once the terminal event is in the log. A checkpoint, which tokens do not wake."""
        if self._log.end is not None:
            await trio.lowlevel.checkpoint()
        else:
            await self._log.wait_end()

    def _is_at_tip(self) -> bool:
        return self._log.end is None and len(self._log.tokens) <= self._cursor
