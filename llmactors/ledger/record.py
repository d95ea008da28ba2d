"""One request: its place in the life cycle, its token log, and who waits for the log to grow."""

from collections.abc import Callable, Sequence
from typing import Literal

import attrs
import trio

from llmactors.ledger.contract import LogSlice, RequestInfo
from llmactors.ledger.fair_queue import Ticket
from llmactors.messages import GenerateRequest, Terminal, TokenDelta


@attrs.define(eq=False)
class Record:
    """The state of one request. `MemoryLedger` moves it; followers only read it."""

    request: GenerateRequest
    ticket: Ticket
    size_bytes: int
    tokens: list[TokenDelta] = attrs.field(factory=list, repr=False)
    end: Terminal | None = None
    ended_by: int = 0
    """The epoch that came to an end with it; 0 where a client or the time ended it."""
    epoch: int = 0
    attempt: int = 0
    quarantined: bool = False
    queued_at: float = 0.0
    """Since when it waits, or waited before it was claimed; monotonic, in seconds."""
    holder: str | None = None
    """The worker that runs it."""
    reserved_for: str | None = None
    """The busy worker that gets it, alone, once that is empty."""
    readers: int = 0
    """Open followers."""
    watched_until: float = 0.0
    """Until when somebody promised to read elsewhere."""
    listeners: list[Callable[[], None]] = attrs.field(factory=list, repr=False)
    """Called whenever the log has grown."""
    # Made when somebody parks, which is seldom; two of them, so that a token does not wake who waits for the end.
    _tailing: trio.lowlevel.ParkingLot | None = attrs.field(default=None, repr=False)
    _ending: trio.lowlevel.ParkingLot | None = attrs.field(default=None, repr=False)

    @property
    def state(self) -> Literal["queued", "running", "ended"]:
        if self.end is not None:
            return "ended"
        return "queued" if self.holder is None else "running"

    @property
    def last_seq(self) -> int:
        return len(self.tokens) + (self.end is not None)

    def info(self) -> RequestInfo:
        return RequestInfo(self.request, self.state, self.epoch, self.attempt, self.last_seq)

    def after(self, seq: int) -> LogSlice:
        """The log after `seq`. The end comes with it whenever there is one, so that every reader learns of it."""
        if self.end is not None:
            seq = min(seq, len(self.tokens))
        return LogSlice(seq + 1, self.tokens[seq:], self.end)

    def extend(self, first_seq: int, deltas: Sequence[TokenDelta]) -> int | None:
        """Writes what is new in `deltas`, and says how many that were; None where `first_seq` leaves a hole.

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
            self._tell_growth()
        return len(deltas)

    def close(self, end: Terminal, ended_by: int) -> None:
        """Writes the terminal event, once, and wakes everybody."""
        self.end = end
        self.ended_by = ended_by
        self._tell_growth()
        if self._ending:
            self._ending.unpark_all()

    def _tell_growth(self) -> None:
        if self._tailing:
            self._tailing.unpark_all()
        for listener in tuple(self.listeners):
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
