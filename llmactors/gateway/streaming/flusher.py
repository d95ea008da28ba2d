"""One task that writes for all SSE streams of a gateway, so that a step of a backend wakes one task and not hundreds.

The log's growth marks a stream; the flusher takes, renders and writes for every marked stream that is due, without ever
waiting for a client. The flusher leaves two things to the stream's own task: the end of the stream, and a write to a
socket that is full.
"""

import math
from typing import Protocol

import structlog
import trio

from llmactors.gateway.streaming.pump import StreamTiming
from llmactors.http.throttle import BurstThrottle
from llmactors.telemetry import Metrics

log = structlog.get_logger("llmactors.gateway")

FAIR_EVERY = 256
"""The number of streams after which the flusher lets other tasks run; they take a few milliseconds. A smaller number
would delay the streams more than it would help the other tasks: in a burst of new requests, a pass of the scheduler is
long."""


ENDED_AT_ONCE = 64
"""The number of streams that may end together. If there are more, `ENDED_PER_PASS` end in each pass: 2 ms of work."""
ENDED_PER_PASS = 16


class Flushed(Protocol):
    """A stream that a flusher writes for."""

    marked: bool
    """Whether the stream has something to write. Only the flusher sets this."""
    next_write: float
    """The time before which the stream must not be written to, on Trio's clock; 0 before its first write."""

    def flush(self, now: float) -> int:
        """Writes what the log has, without a wait, and moves `next_write`. Returns the number of written tokens.

        Does nothing once the stream has been removed.
        """
        ...

    def keep_alive(self, now: float) -> None:
        """Writes a keep-alive if nothing was written for long enough."""
        ...


class Flusher:
    """Writes for streams. A task must run `run`. A stream calls `add`, `mark` when its log has grown, and `remove`."""

    def __init__(self, timing: StreamTiming, metrics: Metrics) -> None:
        self._timing = timing
        self._metrics = metrics
        self.throttle = BurstThrottle(burst=ENDED_AT_ONCE, per_pass=ENDED_PER_PASS)
        """A stream whose own task has work, such as the stream's end, waits here for its turn."""
        self._ends = 0
        """The number of streams that have ended in this turn."""
        self._streams: set[Flushed] = set()
        self._marked: list[Flushed] = []
        self._wake = trio.Event()
        self._due = math.inf
        """The time at which the first marked stream may be written to, on Trio's clock."""
        self._until_due = trio.CancelScope()
        """The scope in which the next turn is awaited where a stream is marked. Its deadline is `_due`."""
        self._over_at = 0.0
        """The end of the last turn, on Trio's clock."""

    def __repr__(self) -> str:
        return f"<Flusher of {len(self._streams)} streams, {len(self._marked)} marked>"

    def add(self, stream: Flushed) -> None:
        """Sends keep-alives to the stream."""
        self._streams.add(stream)

    def remove(self, stream: Flushed) -> None:
        """Forgets a stream that has ended."""
        self._streams.discard(stream)

    def mark(self, stream: Flushed) -> None:
        """Notes that the stream has something to write. Never waits, because the ledger calls this within an append."""
        if not stream.marked:
            stream.marked = True
            self._marked.append(stream)
            if stream.next_write < self._due:
                before, self._due = self._due, stream.next_write
                if before == math.inf or self._due <= trio.current_time():
                    self._wake.set()  # a deadline in the past would wake the task too, by a cancel that costs much more
                else:
                    self._until_due.deadline = self._due  # the task need not run before that time

    def may_end_together(self) -> bool:
        """Counts a stream that ends now. Returns whether few streams end in this turn."""
        self._ends += 1
        return self._ends <= ENDED_AT_ONCE and not self.throttle.is_crowded

    async def run(self) -> None:
        """Writes for all streams, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_alive)
            while True:
                await self._wait_due()
                await self._turn()

    async def _wait_due(self) -> None:
        """Waits until a marked stream may be written to."""
        if self._due <= trio.current_time():
            await trio.lowlevel.checkpoint()
            return
        while self._due > trio.current_time():
            self._wake = trio.Event()
            if self._due == math.inf:
                await self._wake.wait()  # a scope would cost as much as two tokens, and is rarely needed
                continue
            with trio.CancelScope(deadline=self._due) as self._until_due:
                await self._wake.wait()

    async def _turn(self) -> None:
        """Writes for all marked streams that may be written to."""
        begun = trio.current_time()
        others_s = begun - self._over_at
        marked, self._marked, self._due = self._marked, [], math.inf
        self._ends = 0
        tokens = 0
        for number, stream in enumerate(marked, 1):
            if stream.next_write > begun:
                self._marked.append(stream)
                self._due = min(self._due, stream.next_write)
                continue
            stream.marked = False
            tokens += stream.flush(begun)
            if number % FAIR_EVERY == 0:
                left = trio.current_time()
                await trio.lowlevel.checkpoint()
                others_s += trio.current_time() - left
        if tokens:
            self._metrics.tokens_generated(tokens)
        worked_s = trio.current_time() - self._over_at - others_s
        if self._marked and worked_s > others_s:
            # Under overload the flusher leaves half of the time to the tasks that make the tokens.
            await trio.sleep(worked_s - others_s)
        self._over_at = trio.current_time()

    async def _keep_alive(self) -> None:
        while True:
            await trio.sleep(self._timing.keep_alive_s / 4)
            self._keep_all_alive()

    def _keep_all_alive(self) -> None:
        # A function of its own, because the variable of a loop would keep the last stream and its log alive.
        for stream in tuple(self._streams):
            stream.keep_alive(trio.current_time())
