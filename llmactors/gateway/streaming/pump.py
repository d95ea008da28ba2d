"""Moves a log to a client at the client's pace, in the stream's own task: what a stream over a WebSocket does."""

from collections.abc import Awaitable, Callable, Iterator

import attrs
import trio

from llmactors.ledger import Follower, LogSlice

MAX_EVENTS = 1024
"""In one write. A long log that is read again is rendered piece by piece, and others get their turn between."""


@attrs.frozen
class StreamTiming:
    """All in seconds."""

    flush_interval_s: float = 0.01
    """After its first write a stream writes at most once in this time; what became ready goes out together."""
    keep_alive_s: float = 15.0
    """After so much silence the client is told that the stream still lives."""


async def pump(
    follower: Follower,
    write: Callable[[LogSlice], Awaitable[None]],
    keep_alive: Callable[[], Awaitable[None]],
    pace: StreamTiming,
) -> LogSlice:
    """Writes everything from the follower's cursor to the terminal event, and returns the last slice.

    A backend slower than the flush interval is never delayed by it.
    """
    next_write = 0.0
    while True:
        with trio.move_on_after(pace.keep_alive_s) as silence:
            await follower.wait_more()
        if silence.cancelled_caught:
            await keep_alive()
            continue
        if trio.current_time() < next_write:
            await trio.sleep_until(next_write)
        for part in pieces(follower.take()):
            if trio.current_time() < next_write:
                await trio.sleep_until(next_write)
            next_write = trio.current_time() + pace.flush_interval_s
            await write(part)
            if part.end is not None:
                return part


def pieces(part: LogSlice) -> Iterator[LogSlice]:
    """`part` in pieces of at most `MAX_EVENTS` tokens; nothing where it is empty."""
    start = 0
    while len(part.deltas) - start > MAX_EVENTS:
        yield LogSlice(part.first_seq + start, part.deltas[start : start + MAX_EVENTS])
        start += MAX_EVENTS
    if start:
        part = LogSlice(part.first_seq + start, part.deltas[start:], part.end)
    if part.deltas or part.end is not None:
        yield part
