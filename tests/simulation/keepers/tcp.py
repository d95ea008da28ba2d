"""A TCP connection as the kernel of the gateway's host keeps it, and the path to the client.

The kernel takes bytes for the client as far as its buffer goes, counts what the client has acknowledged, and keeps what
the client sends until it is taken. Its counters move whenever they are read, as those of a real kernel do.
"""

import collections
import random
import socket
import struct

import attrs
import trio

_STATE_AT, _ACKED_AT, _RECEIVED_AT, _INFO_BYTES = 0, 120, 128, 256
"""Where `struct tcp_info` of linux/tcp.h has these."""
ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSED, CLOSE_WAIT, LAST_ACK, CLOSING = 1, 4, 5, 7, 8, 9, 11
_PROMPT, _LATE_S = 0.8, 0.4
"""The share of what a client sends that arrives at once, and how long the rest takes at most: it was sent again."""
_MOVES = 0.6
"""How probably something moves whenever a counter is read."""


@attrs.frozen
class Habits:
    """How the buffers and the client of one connection are."""

    send_buffer: int
    window: int
    """The most bytes that wait at the client until it reads them."""
    read_bytes: int
    """The most bytes that the client reads at once."""
    pause_s: float
    """How long the client at most waits before it reads."""
    ack_s: float
    """How long an acknowledgement takes at most."""

    @classmethod
    def drawn(cls, rng: random.Random) -> "Habits":
        """Those of any client."""
        if rng.random() < 0.5:
            return cls(1 << 18, 1 << 18, 1 << 16, 0.0, 0.05)
        buffer, window = rng.choice((300, 900, 4000)), rng.choice((200, 700, 8000))
        return cls(buffer, window, rng.choice((50, 400, 4000)), rng.choice((0.0, 0.02)), rng.choice((0.02, 0.3)))


class Signal:
    """Wakes all tasks that wait."""

    def __init__(self) -> None:
        self._event = trio.Event()

    async def wait(self) -> None:
        await self._event.wait()

    def send(self) -> None:
        if self._event.statistics().tasks_waiting:
            self._event.set()
            self._event = trio.Event()


class Tcp:
    """One connection. Run `run` as a task.

    Args:
        door: A socket whose other end the keeper accepts. The real kernel ends it once the keeper and all gateways have
            closed their copies, and then this connection is closed.
    """

    def __init__(self, door: socket.socket, address: tuple[str, int], habits: Habits, rng: random.Random) -> None:
        self.address = address
        self.habits = habits
        self.acked = self.received = 0
        self.has_reset = self.linger_is_0 = False
        self._door = door
        self._rng = rng
        # At the gateway's host.
        self._in, self._out = bytearray(), bytearray()
        self._own_fin = self._own_fin_acked = self._their_fin = False
        self._own_fin_was_first = False
        self._delivered = 0
        """How many bytes of `_out` have reached the client, whose acknowledgement is under way."""
        self._is_closed = False
        # On the way, and at the client.
        self._coming: collections.deque[tuple[float, bytes]] = collections.deque()
        self._at_client = bytearray()
        self._client_has_fin = self._client_is_gone = False
        self.incoming, self.room, self.outgoing, self.arrived = Signal(), Signal(), Signal(), Signal()
        self._sent, self._coming_signal = Signal(), Signal()

    def __repr__(self) -> str:
        return f"<Tcp {self.address} state={self.state} acked={self.acked} received={self.received}>"

    async def run(self) -> None:
        """Carries bytes until the connection is over."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carry_out)
            nursery.start_soon(self._carry_in)
            nursery.start_soon(self._acknowledge)
            await trio.lowlevel.wait_readable(self._door)
            self._all_copies_closed()
            while not self.has_reset and not (self._own_fin_acked and self._their_fin):
                await self.incoming.wait()
            nursery.cancel_scope.cancel(reason="the connection is over")
        self._door.close()

    # What a gateway's calls find.

    @property
    def is_readable(self) -> bool:
        return bool(self._in) or self._their_fin or self.has_reset

    @property
    def is_writable(self) -> bool:
        # Linux tells of room once a third of the buffer is free.
        return self.has_reset or self._own_fin or len(self._out) * 3 < self.habits.send_buffer * 2

    @property
    def state(self) -> int:
        if self.has_reset or (self._own_fin_acked and self._their_fin):
            return CLOSED
        if self._own_fin and self._their_fin:
            return CLOSING if self._own_fin_was_first else LAST_ACK
        if self._own_fin:
            return FIN_WAIT2 if self._own_fin_acked else FIN_WAIT1
        return CLOSE_WAIT if self._their_fin else ESTABLISHED

    def look(self, count: int) -> bytes:
        """The first bytes of the client, which stay. Raises `BlockingIOError`."""
        if not self._in and self.has_reset:
            raise ConnectionResetError
        if not self._in and not self._their_fin:
            raise BlockingIOError
        return bytes(self._in[:count])

    def take(self, count: int) -> bytes:
        """As `look`, but the bytes are taken."""
        found = self.look(count)
        del self._in[: len(found)]
        return found

    def put(self, data: bytes) -> int:
        """Takes bytes for the client, as far as there is room."""
        if self.has_reset or self._own_fin:
            raise BrokenPipeError
        count = min(len(data), self.habits.send_buffer - len(self._out))
        if count <= 0:
            raise BlockingIOError
        self._out += data[:count]
        self.outgoing.send()
        return count

    def end(self) -> None:
        """As `shutdown(SHUT_WR)`."""
        if self.state == CLOSED:
            raise OSError("not connected")
        if not self._own_fin:
            self._own_fin, self._own_fin_was_first = True, not self._their_fin
            self.outgoing.send()

    def info(self) -> bytes:
        """`TCP_INFO`."""
        self._move()
        found = bytearray(_INFO_BYTES)
        found[_STATE_AT] = self.state
        struct.pack_into("=QQ", found, _ACKED_AT, self.acked, self.received)
        return bytes(found)

    def unacknowledged(self) -> int:
        """`SIOCOUTQ`: the bytes that the client has not acknowledged, and our FIN as one."""
        self._move()
        return len(self._out) + (self._own_fin and not self._own_fin_acked)

    def untaken(self) -> int:
        """`FIONREAD`."""
        self._move()
        return len(self._in)

    def _move(self) -> None:
        """Lets time go on between two system calls."""
        if self._rng.random() < _MOVES:
            self._deliver(self._rng.randint(0, 2000))
            self._ack(self._rng.randint(0, 2000))
            if self._coming:
                self._arrive(self._coming.popleft()[1])

    def _all_copies_closed(self) -> None:
        self._is_closed = True
        if self.linger_is_0 or self._in:
            self._reset()
        elif self.state != CLOSED and not self._own_fin:
            self.end()

    # The path.

    async def _carry_out(self) -> None:
        while not self.has_reset:
            if self._deliverable():
                await trio.sleep(self._rng.uniform(0.0002, 0.003))
                self._deliver(1460)
            elif self._own_fin and not self._client_has_fin and len(self._out) == self._delivered:
                await trio.sleep(self._rng.uniform(0.0002, 0.003))
                self._client_has_fin = True
                self.arrived.send()
                self._sent.send()
            else:
                await self.outgoing.wait()

    def _deliverable(self) -> int:
        """How many bytes the client's window has room for."""
        room = self.habits.window - len(self._at_client)
        return min(len(self._out) - self._delivered, 1 << 30 if self._client_is_gone else room)

    def _deliver(self, most: int) -> None:
        count = min(self._deliverable(), most)
        if count <= 0 or self.has_reset:
            return
        if self._client_is_gone:
            self._reset()  # its host answers so to what comes for nobody
            return
        self._at_client += self._out[self._delivered : self._delivered + count]
        self._delivered += count
        self.arrived.send()
        self._sent.send()

    async def _acknowledge(self) -> None:
        while not self.has_reset:
            if self._delivered or (self._client_has_fin and not self._own_fin_acked):
                await trio.sleep(self._rng.uniform(0.0002, self.habits.ack_s))
                self._ack(self._delivered)
                if self._client_has_fin and not self._out:
                    self.acked += not self._own_fin_acked
                    self._own_fin_acked = True
                    self.incoming.send()
            else:
                await self._sent.wait()

    def _ack(self, most: int) -> None:
        count = min(self._delivered, most)
        self._delivered -= count
        del self._out[:count]
        self.acked += count
        if self.is_writable:
            self.room.send()
        self.outgoing.send()

    async def _carry_in(self) -> None:
        while not self.has_reset and not self._their_fin:
            if self._coming:
                await trio.sleep_until(self._coming[0][0])
                if self._coming:
                    self._arrive(self._coming.popleft()[1])
            else:
                await self._coming_signal.wait()

    def _arrive(self, data: bytes) -> None:
        if self.has_reset or self._their_fin:
            return
        if self._is_closed and data:
            self._reset()
            return
        self._in += data
        self.received += len(data) or 1
        self._their_fin = not data
        self.incoming.send()

    def _reset(self) -> None:
        self.has_reset = True
        self._out.clear()
        self._delivered = 0
        for signal in (self.incoming, self.room, self.outgoing, self.arrived, self._sent, self._coming_signal):
            signal.send()

    # What a client does.

    def client_sends(self, data: bytes) -> None:
        """Sends bytes to the server; no bytes: the client sends no more."""
        if self.has_reset:
            raise BrokenPipeError
        last = self._coming[-1][0] if self._coming else 0.0
        takes_s = self._rng.uniform(0.0002, 0.003 if self._rng.random() < _PROMPT else _LATE_S)
        self._coming.append((max(last, trio.current_time() + takes_s), data))
        self._coming_signal.send()

    async def client_reads(self) -> bytes:
        """Waits for bytes; empty at the end. Raises `ConnectionResetError`."""
        if self.habits.pause_s:
            await trio.sleep(self._rng.uniform(0.0, self.habits.pause_s))
        while not self._at_client:
            if self.has_reset:
                raise ConnectionResetError("the connection was reset")
            if self._client_has_fin:
                return b""
            await self.arrived.wait()
        data = bytes(self._at_client[: self.habits.read_bytes])
        del self._at_client[: len(data)]
        self.outgoing.send()
        return data

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come for the client."""
        return not (self._at_client or self._client_has_fin or self.has_reset)

    def client_closes(self) -> None:
        """Ends the client's side. What it has not read resets the connection."""
        if self._client_is_gone:
            return
        self._client_is_gone = True
        if self._at_client:
            self._reset()
        elif not self.has_reset:
            self.client_sends(b"")
