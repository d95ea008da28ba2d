"""One stream of server-sent events to one client."""

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from llmactors.actors import fatal
from llmactors.gateway.native.events import Renderer, with_long_ends, with_standings
from llmactors.gateway.queue_places import QueuePlaces, QueueStanding, QueueWatch
from llmactors.gateway.streaming.flusher import Flusher
from llmactors.gateway.streaming.pump import MAX_HEAVY_EVENTS, StreamTiming, fits, pieces
from llmactors.gateway.streaming.resuming import Reached, catch_up, last_seq
from llmactors.http.exchange import ChunkWriter, Exchange, Header
from llmactors.ledger import Follower, LogSlice
from llmactors.messages import Failed
from llmactors.telemetry import Metrics
from llmactors.telemetry.model_metrics import StreamTimes

SSE_HEADERS: list[Header] = [("cache-control", "no-cache"), ("x-accel-buffering", "no")]
SSE_TYPE = "text/event-stream; charset=utf-8"


class SseStream:
    """Writes everything after the follower's cursor: the flusher writes all that needs no wait, and `run` writes the
    rest. `times` measures the writes.

    `first` is what was taken of the log before this stream. With `places`, a client that waits is told its place in the
    queue, if the renderer has an event for the place.
    """

    def __init__(
        self,
        exchange: Exchange,
        follower: Follower,
        flusher: Flusher,
        timing: StreamTiming,
        metrics: Metrics,
        renderer: Renderer,
        times: StreamTimes,
        *,
        places: QueuePlaces | None = None,
        first: LogSlice | None = None,
    ) -> None:
        self.marked = False
        self.next_write = 0.0
        self._exchange = exchange
        self._wire: ChunkWriter = exchange.wire or _NoWire()
        self._notes = exchange.held is not None
        self._follower = follower
        self._flusher = flusher
        self._timing = timing
        self._flush_interval_s = timing.flush_interval_s
        self._metrics = metrics
        self._times = times
        exchange.ttft_s = times.ttft
        self._render = renderer.render
        long_ends = with_long_ends(renderer)
        self._render_apart = None if long_ends is None else long_ends.render_apart
        self._keep_alive_bytes = renderer.keep_alive
        self._places: QueuePlaces | None = None
        standings = None if places is None else with_standings(renderer)
        if standings is not None:
            self._places, self._render_standing = places, standings.render_standing
        self._watch: QueueWatch | None = None
        self._last_write = trio.current_time()
        self._left: Callable[[], Awaitable[bool]] | None = None
        """The work that the flusher has left to `run`. The work returns whether the stream has ended."""
        self._has_left = trio.Event()
        if first is not None:
            self._leave(partial(self._write, [*pieces(first)]))

    def __repr__(self) -> str:
        return f"<SseStream {self._exchange.request_id} at {self._follower.cursor}>"

    async def run(self) -> None:
        """Writes until the terminal event is written. Raises `LlmactorsError` if the log cannot be read any more."""
        if (reached := self._exchange.reached) is not None:
            await self._resume(Reached.parse(reached))
        self._flusher.add(self)
        if self._places is not None:
            self._watch = self._places.watch(self._exchange.request_id, self._tell_standing)
        self._follower.listen(partial(self._flusher.mark, self))
        try:
            self._leave_what_is_there()
            while True:
                await self._has_left.wait()
                await self._flusher.throttle.enter()
                assert self._left is not None  # noqa: S101 - set before the event
                if await self._left():
                    return
                self._left, self._has_left = None, trio.Event()
                self._last_write = trio.current_time()
                self._flusher.mark(self)
        finally:
            self._flusher.remove(self)
            if self._places is not None and self._watch is not None:
                self._places.drop(self._watch)
                self._watch = None  # the watch refers to this stream
            self._left = _nothing  # a reference to this stream would be a cycle for the garbage collector

    async def _resume(self, reached: Reached) -> None:
        """Takes up the stream where an earlier gateway left it."""
        [seq] = reached.seqs
        new = await catch_up(self._follower, seq, self._render)
        if reached.end_pieces and new is None:
            await self._follower.wait_more()
            new = self._follower.take()
        await self._exchange.resume()
        if new is not None:
            self._leave(partial(self._write, [*pieces(new)], reached.end_pieces))

    def _leave_what_is_there(self) -> None:
        """Has `run` write what the log has before the first growth that marks this stream. Mostly the log is empty."""
        if self._left is None:
            there = self._follower.take()
            if there.deltas or there.end is not None:
                self._leave(partial(self._write, [*pieces(there)]))

    def flush(self, now: float) -> int:
        """Writes what the log has, without a wait. Returns the number of written tokens."""
        if self._left is not None:
            return 0
        try:
            return self._flush(now)
        except Exception as error:
            if fatal(error) is not None:
                raise
            self._leave(partial(_fail, error))
            return 0

    def _flush(self, now: float) -> int:
        part = self._follower.take()
        tokens = len(part.deltas)
        if not tokens and part.end is None:
            return 0
        self.next_write = now + self._flush_interval_s
        if tokens > MAX_HEAVY_EVENTS and not fits(part):
            self._leave(partial(self._write, [*pieces(part)]))
            return 0
        more: list[LogSlice] = []
        if part.end is not None:
            if not tokens or self._flusher.may_end_together():
                self._leave(partial(self._write, [part]))
                return 0
            # The last tokens are written in time, and do not wait until hundreds of streams have ended.
            more.append(LogSlice(part.end_seq, (), part.end))
            part = LogSlice(part.first_seq, part.deltas)
        data = self._render(part)
        if self._notes:
            self._wire.reached = part.first_seq + len(part.deltas) - (part.end is None)  # `last_seq`, without a call
        whole = self._wire.write_chunk_nowait(data) if data else True  # an empty chunk would end the body
        if whole is None:
            self._leave(partial(self._write_rendered, data, part, more))
            return 0
        self._last_write = now
        if self._watch is not None:
            self._watch.quiet_since = now
        if not whole:
            self._leave(partial(self._finish, more))
        elif more:
            self._leave(partial(self._write, more))
        # The first token is measured exactly: a turn of the flusher takes milliseconds in a burst of new requests.
        self._times.wrote(tokens, now if self._times.have_begun else trio.current_time())
        return tokens

    def keep_alive(self, now: float) -> None:
        """Writes a keep-alive if nothing was written for long enough."""
        # The flusher calls this four times per interval, so a keep-alive may come a quarter of an interval early.
        if self._left is None and self._keep_alive_bytes and now - self._last_write >= self._timing.keep_alive_s * 0.75:
            self._write_aside(self._keep_alive_bytes, now)

    def _tell_standing(self, standing: QueueStanding) -> None:
        """Writes the client's place in the queue, unless there is something else to write."""
        if self._left is None and not self.marked:
            self._write_aside(self._render_standing(standing), trio.current_time())

    def _write_aside(self, data: bytes, now: float) -> None:
        """Writes what is in no log, without a wait."""
        self._last_write = now
        whole = self._wire.write_chunk_nowait(data)
        if whole is None:
            self._leave(partial(self._write_data, data))
        elif not whole:
            self._leave(partial(self._finish, []))

    def _leave(self, work: Callable[[], Awaitable[bool]]) -> None:
        self._left = work
        self._has_left.set()

    async def _write(self, parts: list[LogSlice], written_pieces: int = 0) -> bool:
        """Returns whether the stream has ended. The client has `written_pieces` of the end already."""
        for part in parts:
            if isinstance(part.end, Failed):
                self._exchange.code = part.end.code
            if part.end is not None and self._render_apart is not None:
                for number, piece in enumerate(filter(None, self._render_apart(part)), 1):
                    if number <= written_pieces:
                        continue
                    self._exchange.note_reached(Reached((part.first_seq - 1,), number).note())
                    await self._exchange.write(piece)
                    await trio.lowlevel.checkpoint()
                await self._exchange.write(b"", more=False)
            else:
                self._exchange.note_reached(last_seq(part))
                await self._exchange.write(self._render(part), more=part.end is None)
            self._wrote(part)
        return parts[-1].end is not None

    def _wrote(self, part: LogSlice) -> None:
        if part.deltas:
            self._metrics.tokens_generated(len(part.deltas))
            self._times.wrote(len(part.deltas), trio.current_time())

    async def _write_rendered(self, data: bytes, part: LogSlice, more: list[LogSlice]) -> bool:
        """As `_write`, for a first part that was rendered: a renderer takes each part of a log once."""
        self._exchange.note_reached(last_seq(part))
        await self._exchange.write(data)
        self._metrics.tokens_generated(len(part.deltas))
        self._times.wrote(len(part.deltas), trio.current_time())
        return await self._write(more) if more else False

    async def _finish(self, parts: list[LogSlice]) -> bool:
        await self._wire.write_rest()
        return await self._write(parts) if parts else False

    async def _write_data(self, data: bytes) -> bool:
        await self._exchange.write(data)
        return False


class _NoWire:
    """The wire of a connection that can write no chunk without a wait."""

    reached: bytes | int = b""

    def write_chunk_nowait(self, data: bytes) -> None:
        """Writes nothing, so that `Exchange.write` is used."""

    async def write_rest(self) -> None:
        """There is never a rest."""
        await trio.lowlevel.checkpoint()


async def _fail(error: Exception) -> bool:
    raise error


async def _nothing() -> bool:
    return True
