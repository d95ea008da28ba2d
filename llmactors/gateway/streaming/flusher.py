"""One task per gateway that writes for all its streams, so that a step of a backend wakes one task and not hundreds.

The log's growth marks a stream; the flusher takes, renders and writes for every marked stream that is due, without ever
waiting for a client. What it cannot do at once, which is the end of a stream or a full socket, it leaves to the
stream's own task.
"""

import math
from typing import Protocol

import structlog
import trio

from llmactors.gateway.metrics import GatewayMetrics
from llmactors.gateway.streaming.pump import StreamTiming
from llmactors.http.throttle import BurstThrottle

log = structlog.get_logger("llmactors.gateway")

FAIR_EVERY = 256
"""After so many streams in a row, a few milliseconds' work, the flusher lets others run. Such a pass of the scheduler
takes as long as all that others do in it: in a burst of new requests that is more than it saves them."""


ENDED_AT_ONCE = 64
"""Streams that end together; of more than that `ENDED_PER_PASS` in each pass of the scheduler, 2 ms of work."""
ENDED_PER_PASS = 16


class Flushed(Protocol):
    """What the flusher needs of a stream."""

    marked: bool
    """It has something to write. The flusher's own."""
    next_write: float
    """Not to be written to before, on Trio's clock; 0 before its first write."""

    def flush(self, now: float) -> int:
        """Writes what there is, without waiting, and moves `next_write`. Says how many tokens that were.

        Does nothing once the stream has been removed.
        """
        ...

    def keep_alive(self, now: float) -> None:
        """Writes a sign of life if there was none for a while."""
        ...


class Flusher:
    """Run `run` as a task. `add` a stream, `mark` it whenever its log has grown, `remove` it at its end."""

    def __init__(self, pace: StreamTiming, metrics: GatewayMetrics) -> None:
        self._pace = pace
        self._metrics = metrics
        self.throttle = BurstThrottle(burst=ENDED_AT_ONCE, per_pass=ENDED_PER_PASS)
        """What streams do themselves, as their end, begins here."""
        self._ends = 0
        """How many there were in this turn."""
        self._streams: set[Flushed] = set()
        self._marked: list[Flushed] = []
        self._wake = trio.Event()
        self._due = math.inf
        """When the first of the marked streams is, on Trio's clock."""
        self._over_at = 0.0
        """When the last turn was over, on Trio's clock."""

    def __repr__(self) -> str:
        return f"<Flusher of {len(self._streams)} streams, {len(self._marked)} marked>"

    def add(self, stream: Flushed) -> None:
        """From now on it is kept alive."""
        self._streams.add(stream)

    def remove(self, stream: Flushed) -> None:
        """It is over."""
        self._streams.discard(stream)

    def mark(self, stream: Flushed) -> None:
        """It has something to write. Never waits: the ledger calls this from within an append."""
        if not stream.marked:
            stream.marked = True
            self._marked.append(stream)
            if stream.next_write < self._due:
                self._due = stream.next_write
                self._wake.set()

    def may_end_together(self) -> bool:
        """Asked by a stream that comes to its end: whether it is one of few that do now."""
        self._ends += 1
        return self._ends <= ENDED_AT_ONCE and not self.throttle.is_crowded

    async def run(self) -> None:
        """For ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_alive)
            while True:
                await self._wait_due()
                await self._turn()

    async def _wait_due(self) -> None:
        """Until a marked stream is due."""
        if self._due <= trio.current_time():
            await trio.lowlevel.checkpoint()
            return
        while self._due > trio.current_time():
            self._wake = trio.Event()
            with trio.move_on_at(self._due):
                await self._wake.wait()

    async def _turn(self) -> None:
        """Writes for all that are due."""
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
            # With more to do than time, at least half of it stays for those who make what is written here.
            await trio.sleep(worked_s - others_s)
        self._over_at = trio.current_time()

    async def _keep_alive(self) -> None:
        while True:
            await trio.sleep(self._pace.keep_alive_s / 4)
            self._keep_all_alive()

    def _keep_all_alive(self) -> None:
        # Not in the loop above, which would hold on to the last of them, and to its log, until the next time.
        for stream in tuple(self._streams):
            stream.keep_alive(trio.current_time())
