"""One request's token log as this process has it, and the tasks that wait for new entries."""

from collections.abc import Callable, Sequence

import attrs
import trio

from llmactors.ledger.values import LogSlice
from llmactors.messages import Terminal, TokenDelta


@attrs.define(eq=False)
class TokenLog:
    """All tokens from seq 1, and the terminal event after them. The owner writes; followers read."""

    request_id: str
    tokens: list[TokenDelta] = attrs.field(factory=list, repr=False, kw_only=True)
    end: Terminal | None = attrs.field(default=None, kw_only=True)
    readers: int = attrs.field(default=0, kw_only=True)
    """Open followers."""
    listeners: tuple[Callable[[], None], ...] = attrs.field(default=(), repr=False, kw_only=True)
    """Called whenever the log has grown. A change replaces the tuple, as a listener may remove itself when called."""
    # These events are made when a task waits, which is rare. There are two, so that a token does not wake a task that
    # waits for the end.
    _tailing: trio.lowlevel.ParkingLot | None = attrs.field(default=None, repr=False, kw_only=True)
    _ending: trio.lowlevel.ParkingLot | None = attrs.field(default=None, repr=False, kw_only=True)

    @property
    def last_seq(self) -> int:
        return len(self.tokens) + (self.end is not None)

    def after(self, seq: int) -> LogSlice:
        """The log after `seq`. The end of the log comes with every `seq`, so that every reader learns of the end."""
        if self.end is not None:
            seq = min(seq, len(self.tokens))
        return LogSlice(seq + 1, self.tokens[seq:], self.end)

    def extend(self, first_seq: int, deltas: Sequence[TokenDelta]) -> int | None:
        """Writes the new tokens of `deltas`, and returns how many; None where `first_seq` leaves a hole.

        Raises `ValueError` for a `first_seq` below 1.
        """
        known = len(self.tokens) + 1 - first_seq
        if known:
            if known < 0:
                return None
            if first_seq < 1:
                raise ValueError(f"seq counts from 1, not from {first_seq}")
            deltas = deltas[known:]
        if deltas:
            self.tokens.extend(deltas)
            self._notify_growth()
        return len(deltas)

    def close(self, end: Terminal) -> None:
        """Writes the terminal event, and wakes all tasks that wait. To be called once."""
        self.end = end
        self._notify_growth()
        if self._ending:
            self._ending.unpark_all()

    def _notify_growth(self) -> None:
        if self._tailing:
            self._tailing.unpark_all()
        for listener in self.listeners:
            listener()

    async def wait_growth(self) -> None:
        """Parks until the log grows."""
        if self._tailing is None:
            self._tailing = trio.lowlevel.ParkingLot()
        await self._tailing.park()

    async def wait_end(self) -> None:
        """Parks until the terminal event is written."""
        if self._ending is None:
            self._ending = trio.lowlevel.ParkingLot()
        await self._ending.park()
