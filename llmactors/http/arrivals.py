"""One task that waits for the bytes of many sockets, and reads all sockets that have some in one pass.

A stream that waits for its next token by itself costs a registration with the kernel, a cancel scope for its deadline
and a pass of the scheduler, each time. Here a socket is registered once, one task looks after all deadlines, and the
streams whose bytes have come are woken together, so that what follows (the append to the ledger, the write to a client)
happens once for all of them.

While the bytes of many sockets may wait for others, passes are at most `INTERVAL_S` apart, which is the most that a
byte waits. A byte that comes after a longer pause is read at once, and so is a byte that must not wait, such as the
first one of an answer.
"""

import math
import select
import socket
from collections.abc import Callable

import trio

from llmactors.http.ticker import Ticker

READ_BYTES = 16_384
"""The most that one read takes: about 60 tokens, and no more than 2 ms of work to parse where a server floods."""
FAIR_BYTES = 65_536
"""The number of bytes after which the streams that they belong to run, before more is read."""
INTERVAL_S = 0.01
"""The most time between two passes."""
_INTERVALS = ((100, INTERVAL_S / 2), (32, INTERVAL_S), (16, INTERVAL_S / 4))
"""From how many sockets on whose bytes may wait there is how much time between two passes. With few sockets there is
nothing to wait for, and each byte is read at once. With a hundred sockets, a short time brings many bytes together."""
_READ = select.EPOLLIN | select.EPOLLRDHUP


class WatchedSocket:
    """A socket whose bytes `Arrivals` reads, for one task at a time. Call `close` before the socket is closed."""

    def __init__(self, arrivals: "Arrivals", sock: socket.socket) -> None:
        self.socket = sock
        self.task: trio.lowlevel.Task | None = None
        """The task that waits for bytes; None while no task does."""
        self.deadline = math.inf
        """When the task gives up, on Trio's clock."""
        self.data: bytes | None = None
        """What the pass has read; None where the deadline came first."""
        self.absorb: Callable[[bytes], float | None] | None = None
        """Takes bytes that were read, in place of the waiting task, and returns the new deadline of the wait; or None,
        if the task is to go on. `receive` raises what this raises."""
        self.error: Exception | None = None
        """Why nothing could be read or absorbed."""
        self.reported_by: select.epoll | None = None
        """Where the kernel reports bytes; None where it does not. Bytes that no task waits for would be reported again
        and again."""
        self._arrivals = arrivals
        self._closed = False

    def __repr__(self) -> str:
        return f"<WatchedSocket {'awaited' if self.task else 'not awaited'}, reported={self.reported_by is not None}>"

    async def receive(self, deadline: float = math.inf, *, at_once: bool = False) -> bytes:
        """Waits for bytes until `deadline`, on Trio's clock; empty at the end of the connection.

        Bytes that `absorb` takes are not returned. `at_once`: the bytes do not wait for those of other sockets.

        Raises:
            trio.TooSlowError: Nothing came in time.
            trio.ClosedResourceError: Another task has closed the socket.
            OSError: The connection is broken.
        """
        if self._closed:
            raise trio.ClosedResourceError("the socket was closed")
        self.data = self.error = None
        self.deadline = deadline
        self._arrivals.await_bytes(self, at_once=at_once)
        self.task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._give_up)
        if self.error is not None:
            raise self.error
        if self.data is None:
            if self._closed:
                raise trio.ClosedResourceError("the socket was closed")
            raise trio.TooSlowError("nothing came in time")
        return self.data

    def wake(self) -> None:
        """Lets the waiting task go on."""
        task, self.task = self.task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def close(self) -> None:
        """Ends the watch. Does nothing a second time. The socket stays open."""
        if not self._closed:
            self._closed = True
            self._arrivals.forget(self)
            self.wake()

    def _give_up(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Arrivals:
    """Reads sockets. Take the one of the running event loop by `of_this_loop`."""

    def __init__(self) -> None:
        self._gathered = select.epoll()
        """The sockets whose bytes may wait for the next pass."""
        self._urgent = select.epoll()
        """The sockets whose bytes are read at once."""
        self._gathered_count = 0
        self._watched: dict[int, WatchedSocket] = {}
        self._ticker = Ticker()
        self._has_more = False
        """Whether a socket had more bytes in the last pass than one read takes."""
        self._look_at = math.inf
        """No deadline of a waiting task is earlier."""
        self._waiting: trio.CancelScope | None = None
        """The scope in which bytes are awaited, whose deadline is `_look_at`."""
        self.passes = 0

    def __repr__(self) -> str:
        return f"<Arrivals at {len(self._watched)} sockets after {self.passes} passes>"

    @classmethod
    def of_this_loop(cls) -> "Arrivals":
        """The arrivals of the running event loop, whose task runs until the loop ends."""
        try:
            return _ARRIVALS.get()
        except LookupError:
            arrivals = cls()
            _ARRIVALS.set(arrivals)
            trio.lowlevel.spawn_system_task(arrivals.run, name="reading of watched sockets")
            trio.lowlevel.spawn_system_task(arrivals.run_urgent, name="reading of urgent sockets")
            return arrivals

    def watch(self, sock: socket.socket) -> WatchedSocket:
        """Begins to watch a socket, which must not block."""
        watched = self._watched[sock.fileno()] = WatchedSocket(self, sock)
        return watched

    def forget(self, watched: WatchedSocket) -> None:
        """Ends the watch of a socket that is still open."""
        descriptor = watched.socket.fileno()
        if self._watched.get(descriptor) is watched:
            del self._watched[descriptor]
            self._unregister(watched)

    def await_bytes(self, watched: WatchedSocket, *, at_once: bool) -> None:
        """Has a socket read in the next pass or at once, and ends the wait for its bytes at its deadline."""
        reported_by = self._urgent if at_once else self._gathered
        if watched.reported_by is not reported_by:
            self._unregister(watched)
            reported_by.register(watched.socket.fileno(), _READ)
            watched.reported_by = reported_by
            self._gathered_count += not at_once
        if watched.deadline < self._look_at:
            self._look_at = watched.deadline
            if self._waiting is not None:
                self._waiting.deadline = watched.deadline

    async def run(self) -> None:
        """Reads the sockets whose bytes may wait, and ends all waits at their deadlines, for ever."""
        try:
            while True:
                with trio.CancelScope(deadline=self._look_at) as self._waiting:
                    await trio.lowlevel.wait_readable(self._gathered.fileno())
                self._waiting = None
                await self._read_at_ticks()
        finally:
            for watched in list(self._watched.values()):
                watched.close()  # async generators that nobody has closed are closed later, with their streams
            self._gathered.close()
            self._ticker.close()

    async def run_urgent(self) -> None:
        """Reads the sockets whose bytes do not wait, for ever."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._urgent.fileno())
                await self._read_all(self._urgent)
        finally:
            self._urgent.close()

    async def _read_at_ticks(self) -> None:
        """Makes a pass at once, and then one at each tick until a pass finds nothing.

        While bytes are expected before the next tick, nothing has to wait for the first of them.
        """
        while await self._pass():
            interval_s = next((interval_s for count, interval_s in _INTERVALS if self._gathered_count >= count), 0.0)
            if not interval_s:
                break
            self._ticker.start(interval_s)
            if self._has_more:
                await trio.lowlevel.checkpoint()
            else:
                await self._ticker.wait()
        self._ticker.stop()

    async def _pass(self) -> bool:
        """Reads all sockets that have bytes. Returns whether any has whose bytes may wait."""
        self.passes += 1
        self._has_more = False
        now = trio.current_time()
        overdue = self._overdue(now) if self._look_at <= now else []
        if overdue:
            await self._read_all(self._urgent)
        found = await self._read_all(self._gathered)
        # What has come in time is read before any task gives up, also where the process was stopped. A task that has
        # begun to wait during the pass gives up in the next one, since nothing has been read for that task yet.
        for watched in overdue:
            if watched.deadline <= now:
                watched.wake()
        if self._look_at <= now:
            self._look_at = min((each.deadline for each in self._watched.values() if each.task), default=math.inf)
        return found

    async def _read_all(self, epoll: select.epoll) -> bool:
        """Reads all sockets that have bytes, of those that `epoll` reports. Returns whether any has."""
        size = 0
        ready = epoll.poll(0, max(1, len(self._watched)))
        for descriptor, _ in ready:
            watched = self._watched.get(descriptor)
            if watched is None:
                continue  # its stream has ended during this pass
            if watched.task is None:
                self._unregister(watched)
                continue
            read = self._read(watched)
            size += read
            self._has_more = self._has_more or read == READ_BYTES
            if size >= FAIR_BYTES:
                size = 0
                await trio.lowlevel.checkpoint()
        return bool(ready)

    def _unregister(self, watched: WatchedSocket) -> None:
        if watched.reported_by is not None:
            if not watched.reported_by.closed:  # closed with the loop
                watched.reported_by.unregister(watched.socket.fileno())
            self._gathered_count -= watched.reported_by is self._gathered
            watched.reported_by = None

    @staticmethod
    def _read(watched: WatchedSocket) -> int:
        data = b""
        try:
            data = watched.socket.recv(READ_BYTES)
            if data and watched.absorb is not None:
                deadline = watched.absorb(data)
                if deadline is not None:
                    watched.deadline = deadline
                    return len(data)
        except BlockingIOError:
            return 0
        except Exception as error:  # noqa: BLE001 - the waiting task raises the error
            watched.error = error
        watched.data = data
        watched.wake()
        return len(data)

    def _overdue(self, now: float) -> list[WatchedSocket]:
        """The sockets whose tasks have waited to their deadlines."""
        return [watched for watched in self._watched.values() if watched.task is not None and watched.deadline <= now]


_ARRIVALS: trio.lowlevel.RunVar[Arrivals] = trio.lowlevel.RunVar("arrivals")
