"""Moves a log to a client at the client's pace: what every stream, over SSE or WebSocket, does until its end."""

from collections.abc import Awaitable, Callable

import attrs
import trio

from llmactors.ledger import Follower, LogSlice


@attrs.frozen
class Pace:
    """All in seconds."""

    flush_interval_s: float = 0.01
    """After its first write a stream writes at most once in this time; what became ready goes out together."""
    keep_alive_s: float = 15.0
    """After so much silence the client is told that the stream still lives."""


async def pump(
    follower: Follower,
    write: Callable[[LogSlice], Awaitable[None]],
    keep_alive: Callable[[], Awaitable[None]],
    pace: Pace,
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
        part = follower.take()
        if part.deltas or part.end is not None:
            next_write = trio.current_time() + pace.flush_interval_s
            await write(part)
        if part.end is not None:
            return part
