"""One run of a plan: one thread, one epoll. Only the end of each answer is looked for; nothing else is parsed here."""

import heapq
import select
import time
from collections import deque
from collections.abc import Callable, Iterator

from llmactors.load.arrivals import poisson, ramp
from llmactors.load.connection import IN, OUT, TROUBLE, LoadConnection
from llmactors.load.held_answers import HeldAnswers
from llmactors.load.histogram import Histogram
from llmactors.load.http_recording import HandshakeRecording, HttpRecording
from llmactors.load.plan import Api, Plan
from llmactors.load.recording import Recording
from llmactors.load.request_encoder import RequestEncoder
from llmactors.load.snapshot import RunSnapshot
from llmactors.load.socket_recording import BadFrame, SocketRecording, masked_pong

TICK_S = 0.25
_EVENTS = 128
"""How many sockets are served before the clock is read: an arrival must not wait for a thousand sockets."""
_AGAIN_S = 0.05
"""How long a client waits after a connection that failed to open, or brought no bytes."""
_IDLE_S = 1.0
"""A connection that was idle for longer is not used again: the server may close it at the same time."""
_FINE_S = 0.003
"""epoll counts whole milliseconds, rounded up. `select` waits for the last few milliseconds before an arrival."""


class Engine:
    """One run of a plan."""

    def __init__(self, plan: Plan, on_progress: Callable[[RunSnapshot], None] | None = None) -> None:
        self.plan = plan
        self.answers = HeldAnswers(plan)
        self.late = Histogram()
        """In an open loop: how late each request was sent."""
        self.held_back = 0
        """Requests of an open loop that waited for a free connection."""
        self.connections = 0
        """How many connections were opened in all."""
        self.received_bytes = 0
        self.seconds = 0.0
        self.ended = "complete"
        """`complete`; `interrupted`: somebody stopped the run; `limit`: the time was up with requests under way."""
        self._on_progress = on_progress
        self._encoder = RequestEncoder(plan)
        self._epoll = select.epoll()
        self._open: dict[int, LoadConnection] = {}
        self._idle: list[LoadConnection] = []
        self._due: list[float] = []
        """The times at which requests begin that do not follow an answer."""
        self._backlog: deque[float] = deque()
        """The times of arrivals that wait for a free connection."""
        self._arrivals: Iterator[float] | None = None
        self._next = 0
        self._busy = 0
        """Connections with a request under way."""
        self._stopping = False
        self._interrupted = False
        self._begun = 0.0
        self._max_bytes = 65_536 + 4096 * plan.max_tokens

    def __repr__(self) -> str:
        return f"<Engine {self.plan.target.url} {self._next} begun, {self._busy} under way>"

    def interrupt(self) -> None:
        """Ends the run within a tick, with the figures so far. A signal handler may call this."""
        self._interrupted = True

    def run(self) -> None:
        """Sends all requests and receives their answers. Takes at most `limit_s` and the time of one tick."""
        plan = self.plan
        begun = self._begun = time.perf_counter()
        self.answers.begun = begun
        if plan.rate is None:
            self._due = [begun + at for at in ramp(min(plan.clients, plan.requests), plan.ramp_s)]
        else:
            self._arrivals = poisson(plan.rate, plan.seed)
            self._due = [begun + next(self._arrivals)]
        next_tick = begun + TICK_S
        try:
            while self._busy or self._due or self._backlog:
                self._start_due()
                for fd, mask in self._wait(next_tick):
                    connection = self._open.get(fd)
                    if connection is not None:
                        self._ready(connection, mask)
                if time.perf_counter() >= next_tick:
                    next_tick = self._tick()
            self.seconds = time.perf_counter() - begun
        finally:
            for connection in [*self._open.values()]:
                self._drop(connection)
            self._epoll.close()

    # When requests begin.

    def _wait(self, next_tick: float) -> list[tuple[int, int]]:
        wait_s = min(next_tick, self._due[0] if self._due else next_tick) - time.perf_counter()
        if wait_s <= 0:
            return self._epoll.poll(0, _EVENTS)
        if wait_s > _FINE_S:
            return self._epoll.poll(wait_s - 0.002, _EVENTS)
        select.select((self._epoll,), (), (), wait_s)
        return self._epoll.poll(0, _EVENTS)

    def _start_due(self) -> None:
        for _ in range(len(self._backlog)):
            if not self._room():
                break
            self._begin(self._idle.pop() if self._idle else None, self._backlog.popleft())
        due, now = self._due, time.perf_counter()
        while due and due[0] <= now:
            at = heapq.heappop(due)
            if self._arrivals is None:
                self._begin(None, time.perf_counter())
                continue
            if self._next + len(self._backlog) + 1 < self.plan.requests and not self._stopping:
                heapq.heappush(due, self._begun + next(self._arrivals))
            self._arrive(at)

    def _arrive(self, at: float) -> None:
        if self._backlog or not self._room():
            self.held_back += 1
            self._backlog.append(at)
        else:
            self._begin(self._idle.pop() if self._idle else None, at)

    def _room(self) -> bool:
        return bool(self._idle) or len(self._open) < self.plan.clients

    def _begin(self, connection: LoadConnection | None, at: float) -> None:
        """Begins the next request, if one is left, on this connection or a new one. `at` is when it should begin."""
        if self._next >= self.plan.requests or self._stopping:
            if connection is not None:
                self._drop(connection)
            return
        index = self._next
        self._next += 1
        self._busy += 1
        request = self._encoder.request(index)
        now = time.perf_counter()
        if self._arrivals is not None:
            self.late.record(max(0.0, now - at))
        if connection is not None and now - connection.active > _IDLE_S:
            self._drop(connection)
            connection = None
        if connection is None:
            self._connect(index, at, request)
            return
        connection.active = now
        connection.recording = SocketRecording(index, at) if self.plan.api is Api.WS else HttpRecording(index, at)
        self._send(connection, request)

    def _connect(self, index: int, at: float, request: bytes) -> None:
        target = self.plan.target
        try:
            connection = LoadConnection.of(target, self._epoll, time.perf_counter())
        except OSError as error:
            self._lost(index, at, "connect", str(error))
            self._again()
            return
        self.connections += 1
        if self.plan.api is Api.WS:
            opening, accept = self._encoder.handshake(index)
            connection.recording = HandshakeRecording(index, at, accept=accept)
            connection.then, request = request, opening
        else:
            connection.recording = HttpRecording(index, at)
        self._open[connection.fd] = connection
        try:
            connection.connect(target, request)
        except OSError as error:
            self._broken(connection, error)

    # What a socket is ready for.

    def _ready(self, connection: LoadConnection, mask: int) -> None:
        if connection.unsent and mask & (OUT | TROUBLE):
            recording = connection.recording
            self._send(connection, connection.unsent)
            if connection.recording is not recording:
                return
        if not mask & (IN | TROUBLE):
            return
        try:
            data = connection.receive()
        except OSError as error:
            self._broken(connection, error)
            return
        if data is None:
            return
        now = connection.active = time.perf_counter()
        recording = connection.recording
        if recording is None:  # idle: the server closed the connection, or sent bytes that belong to no request
            self._idle.remove(connection)
            self._drop(connection)
        elif not data:
            self._closed(connection, recording, now)
        else:
            self.received_bytes += len(data)
            self._received(connection, recording, data, now)

    def _received(self, connection: LoadConnection, recording: Recording, data: bytes, now: float) -> None:
        try:
            complete = recording.feed(data, now)
        except BadFrame as error:
            self._fail(connection, "malformed_frame", str(error))
            return
        if complete:
            if isinstance(recording, HandshakeRecording) and recording.accepted:
                self._opened(connection, recording, now)
            else:
                self._done(connection, recording)
        elif isinstance(recording, SocketRecording):
            while recording.pings:
                self._send(connection, masked_pong(recording.pings.pop(), recording.index))
            if recording.closing:
                self._fail(connection, "cut", f"closed by the server after {len(recording.texts)} messages")
        elif len(recording.data) > self._max_bytes:
            self._fail(connection, "too_long", f"{len(recording.data)} bytes")

    def _opened(self, connection: LoadConnection, handshake: HandshakeRecording, now: float) -> None:
        """Sends the first request on an open WebSocket. Its time includes the opening."""
        recording = connection.recording = SocketRecording(handshake.index, handshake.begun)
        rest = bytes(handshake.data.partition(b"\r\n\r\n")[2])
        request, connection.then = connection.then, b""
        self._send(connection, request)
        if rest and connection.recording is recording:
            self._received(connection, recording, rest, now)

    def _send(self, connection: LoadConnection, data: bytes) -> None:
        try:
            connection.send(data)
        except OSError as error:
            self._broken(connection, error)

    # How requests end.

    def _done(self, connection: LoadConnection, recording: Recording) -> None:
        connection.recording = None
        connection.unsent = b""
        self._busy -= 1
        if recording.closing or not self.plan.keep_alive or isinstance(recording, HandshakeRecording):
            self._drop(connection)
            self._next_request(None)
        else:
            self._next_request(connection)
        self.answers.hold(recording)

    def _next_request(self, connection: LoadConnection | None) -> None:
        """Begins the client's next request, or keeps the connection for the next arrival."""
        if self._arrivals is None:
            self._begin(connection, time.perf_counter())
        elif connection is not None:
            self._idle.append(connection)

    def _closed(self, connection: LoadConnection, recording: Recording, now: float) -> None:
        if recording.feed_eof():
            recording.read_ends.append(len(recording.data))
            recording.read_times.append(now)
            recording.closing = True
            self._done(connection, recording)
        else:
            self._fail(connection, "cut", f"closed by the server after {len(recording.data)} bytes")

    def _broken(self, connection: LoadConnection, error: OSError) -> None:
        if connection.recording is None:
            self._idle.remove(connection)
            self._drop(connection)
        else:
            self._fail(connection, "cut" if connection.connected else "connect", error.strerror or str(error))

    def _fail(self, connection: LoadConnection, kind: str, detail: str) -> None:
        recording = connection.recording
        assert recording is not None  # noqa: S101 - a connection that fails has a request under way
        brought_nothing = not recording.data
        self._drop(connection)
        self._lost(recording.index, recording.begun, kind, detail)
        if brought_nothing:
            self._again()
        else:
            self._next_request(None)

    def _lost(self, index: int, begun: float, kind: str, detail: str) -> None:
        self._busy -= 1
        now = time.perf_counter()
        after = f"request {index}, after {now - begun:.3f} s: {detail}"
        self.answers.fail(kind, after, now)

    def _again(self) -> None:
        """Begins the client's next request after a pause.

        Without the pause, a client would try a thousand times a second while the server is down.
        """
        if self._arrivals is None:
            heapq.heappush(self._due, time.perf_counter() + _AGAIN_S)

    def _drop(self, connection: LoadConnection) -> None:
        del self._open[connection.fd]
        connection.close()

    # Four times a second.

    def _tick(self) -> float:
        """Ends what has taken too long, and reports the progress. Returns the time of the next tick."""
        now = time.perf_counter()
        seconds = now - self._begun
        if self.plan.seconds is not None and seconds >= self.plan.seconds:
            self._due.clear()
            # Requests of an open loop that have arrived are still sent: without them the figures would be too good.
            if not self._backlog:
                self._stopping = True
        if self._interrupted:
            self._break_off("interrupted")
        elif seconds >= self.plan.limit_s:
            self._break_off("limit")
        else:
            for connection in [*self._open.values()]:
                if connection.recording is not None and now - connection.active > self.plan.stall_s:
                    what = "timeout" if connection.connected else "connect"
                    self._fail(connection, what, f"nothing came for {self.plan.stall_s:g} s")
        if self._on_progress is not None:
            waiting = len(self._backlog)
            self._on_progress(self.answers.snapshot(seconds, self._busy, waiting, self.received_bytes))
        return time.perf_counter() + TICK_S

    def _break_off(self, why: str) -> None:
        self._stopping = True
        self._due.clear()
        if self._busy or self._backlog or why == "interrupted":
            self.ended = why
        under_way = [connection for connection in self._open.values() if connection.recording is not None]
        if why == "interrupted":
            self.answers.tally.interrupted = len(under_way) + len(self._backlog)
            self._backlog.clear()
            self._busy = 0
            return
        waiting, self._backlog = self._backlog, deque()
        for connection in under_way:
            self._fail(connection, "broken_off", f"the run took longer than {self.plan.limit_s:g} s")
        self._due.clear()
        for at in waiting:
            self._busy += 1
            self._lost(self._next, at, "broken_off", "no connection was free before the time was up")
