"""One reader's place in one log that is in this process."""

from collections.abc import Callable
from typing import Self

import trio

from llmactors.ledger.core.token_log import TokenLog
from llmactors.ledger.values import LogSlice


class LogFollower:
    """Holds the `Follower` Protocol. It keeps its log in memory for as long as it lives, so it never misses a part.

    Open it once at most: the log's owner counts readers by it. The terminal event is taken once; after it `take` gives
    nothing and the `wait_…` methods return at once.
    """

    def __init__(self, log: TokenLog, after: int, presence_changed: Callable[[], None]) -> None:
        self._log = log
        self._cursor = after
        self._presence_changed = presence_changed
        self._end_taken = False
        self._news: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<LogFollower of {self._log!r} at {self._cursor}>"

    def __enter__(self) -> Self:
        self._log.readers += 1
        self._presence_changed()
        return self

    def __exit__(self, *exc: object) -> None:
        self.listen(None)
        self._log.readers -= 1
        self._presence_changed()

    @property
    def cursor(self) -> int:
        return self._cursor

    def take(self) -> LogSlice:
        """All entries after the cursor; moves the cursor past them."""
        if self._end_taken:
            return LogSlice(self._cursor + 1, ())
        taken = self._log.after(self._cursor)
        if taken.end is None:
            self._cursor += len(taken.deltas)
        else:
            self._cursor = taken.end_seq
            self._end_taken = True
        return taken

    def listen(self, news: Callable[[], None] | None) -> None:
        """Has `news` called at every growth of the log; None: no longer."""
        if self._news is not None:
            self._log.listeners = tuple(news for news in self._log.listeners if news is not self._news)
        self._news = news
        if news is not None:
            self._log.listeners += (news,)

    async def wait_more(self) -> None:
        """Returns once `take` would give something, or never will again. A checkpoint."""
        if not self._is_at_tip():
            await trio.lowlevel.checkpoint()
            return
        # More than one turn where the cursor is ahead of the log, as a client may ask for.
        while self._is_at_tip():
            await self._log.wait_growth()

    async def wait_end(self) -> None:
        """Returns once the terminal event is in the log. A checkpoint. Tokens do not wake it."""
        if self._log.end is not None:
            await trio.lowlevel.checkpoint()
        else:
            await self._log.wait_end()

    def _is_at_tip(self) -> bool:
        return self._log.end is None and len(self._log.tokens) <= self._cursor
