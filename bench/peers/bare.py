"""The parts of a bare endpoint that are the same on asyncio and on Trio. Standard library alone, as in `work.py`.

A bare endpoint validates nothing and bounds nothing. One task makes the steps for all streams, and the events that a
stream has ready go out in one send.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from bench.peers.work import Job, Model, StepSchedule, events

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
HEADERS = [(b"content-type", b"text/event-stream")]


class Event(Protocol):
    """The common part of `asyncio.Event` and `trio.Event`."""

    def set(self) -> None: ...

    async def wait(self) -> object: ...


class Runtime(NamedTuple):
    """The functions of asyncio or of Trio."""

    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]
    new_event: Callable[[], Event]


class Stream:
    """One answer of a bare endpoint, with the events that have not been sent."""

    def __init__(self, job: Job, wake: Callable[[], None]) -> None:
        self.job = job
        self.seq = 0
        self._ready: list[str] = []
        self._wake = wake
        """Called when there are events to send."""

    def advance(self) -> bool:
        """Add one token. False if that was the last token."""
        self.seq += 1
        self._ready.append(events(self.job, self.seq))
        self._wake()
        return self.seq < self.job.max_tokens

    def take(self) -> tuple[bytes, bool]:
        """The events that have not been sent, and whether more events will follow."""
        data = "".join(self._ready).encode()
        self._ready.clear()
        return data, self.seq < self.job.max_tokens


class ContinuousBatch:
    """Continuous batching: a stream that waits joins the batch as soon as a slot is free."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._waiting: deque[Stream] = deque()
        self._running: list[Stream] = []

    def add(self, stream: Stream) -> None:
        """Let a stream wait for a slot."""
        self._waiting.append(stream)

    def fill(self) -> bool:
        """Give free slots to streams that wait. Returns whether any stream runs now."""
        while self._waiting and len(self._running) < self._count:
            self._running.append(self._waiting.popleft())
        return bool(self._running)

    def step(self) -> None:
        """Make one token for each stream that runs."""
        self._running = [stream for stream in self._running if stream.advance()]


class Decoder:
    """Makes the steps for all streams."""

    def __init__(self, model: Model, runtime: Runtime) -> None:
        self._step_s = model.step_s
        self._batch = ContinuousBatch(model.slots)
        self._runtime = runtime
        self._arrived = runtime.new_event()

    def add(self, stream: Stream) -> None:
        """Let a stream wait for a slot, and wake the task that makes the steps."""
        self._batch.add(stream)
        self._arrived.set()

    async def run(self) -> None:
        """Make steps for ever."""
        clock, sleep, new_event = self._runtime
        schedule = StepSchedule(self._step_s, clock())
        while True:
            while not self._batch.fill():
                self._arrived = new_event()
                await self._arrived.wait()
                schedule = StepSchedule(self._step_s, clock())
            await sleep(schedule.wait_s(clock()))
            self._batch.step()


async def body_of(receive: Receive) -> bytes:
    """Read the whole body of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body
