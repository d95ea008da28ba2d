"""Writes a log to a client in a task of the stream's own, as a stream on a WebSocket needs."""

from collections.abc import Awaitable, Callable, Iterator

import attrs
import trio

from llmactors.ledger import Follower, LogSlice

MAX_EVENTS = 1024
"""The number of tokens in one write. A longer log is written piece by piece, and other tasks run between."""

MAX_HEAVY_EVENTS = 64
"""The same for tokens that carry more than their text, such as log probabilities."""


@attrs.frozen
class StreamTiming:
    """When a stream is written, in seconds."""

    flush_interval_s: float = 0.01
    """A stream is written at most once in this time. The tokens of this time are written together."""
    keep_alive_s: float = 15.0
    """The time without a write after which a keep-alive is sent."""


async def pump(
    follower: Follower,
    write: Callable[[LogSlice], Awaitable[None]],
    keep_alive: Callable[[], Awaitable[None]],
    timing: StreamTiming,
) -> LogSlice:
    """Writes everything from the follower's cursor to the terminal event, and returns the last slice.

    The flush interval never delays a backend that is slower than the interval.
    """
    next_write = 0.0
    while True:
        with trio.move_on_after(timing.keep_alive_s) as silence:
            await follower.wait_more()
        if silence.cancelled_caught:
            await keep_alive()
            continue
        if trio.current_time() < next_write:
            await trio.sleep_until(next_write)
        for part in pieces(follower.take()):
            if trio.current_time() < next_write:
                await trio.sleep_until(next_write)
            next_write = trio.current_time() + timing.flush_interval_s
            await write(part)
            if part.end is not None:
                return part


def pieces(part: LogSlice) -> Iterator[LogSlice]:
    """The slice in pieces that can be written at once. An empty slice has no pieces."""
    start, most = 0, _most_at_once(part)
    while len(part.deltas) - start > most:
        yield LogSlice(part.first_seq + start, part.deltas[start : start + most])
        start += most
    if start:
        part = LogSlice(part.first_seq + start, part.deltas[start:], part.end)
    if part.deltas or part.end is not None:
        yield part


def fits(part: LogSlice) -> bool:
    """Whether the slice can be written at once."""
    tokens = len(part.deltas)
    return tokens <= MAX_HEAVY_EVENTS or tokens <= _most_at_once(part)


def _most_at_once(part: LogSlice) -> int:
    return MAX_EVENTS if not part.deltas or part.deltas[0].extra is None else MAX_HEAVY_EVENTS
