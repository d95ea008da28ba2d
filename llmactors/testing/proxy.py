"""A TCP proxy on loopback that fails on demand as networks do: with delays, silence, lost replies and resets.

Each fault is a `with` block and lasts until the block ends. Blocks of the same fault may overlap.
"""

import contextlib
import functools
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal, Self

import attrs
import trio

from llmactors.testing.managed_process import poll_until

Direction = Literal["up", "down"]
"""`up` is the direction to the server, `down` the direction from the server."""

_PIECE_BYTES = 65_536
_PIECES_UNDER_WAY = 64
_RST = struct.pack("ii", 1, 0)


@attrs.frozen
class ProxyStatistics:
    """A snapshot of a proxy."""

    open: int
    """Connections that are open now; all other fields count since the start."""
    accepted: int
    refused: int
    cut: int
    bytes_up: int
    bytes_down: int


class Proxy:
    """Passes bytes between its own port and `target_port`. Its port is known once `run` has started."""

    def __init__(self, target_port: int, *, name: str = "") -> None:
        self.name = name
        self.port = 0
        self._target_port = target_port
        self._links: set[_Link] = set()
        self._delays_s: list[float] = []
        self._silenced: Counter[Direction] = Counter()
        self._dropping: Counter[Direction] = Counter()
        self._refusing = 0
        self._count: Counter[str] = Counter()

    def __repr__(self) -> str:
        faults = [f"delay {self.delay_s:g} s"] if self._delays_s else []
        faults += [f"silent {direction}" for direction in +self._silenced]
        faults += [f"drops {direction}" for direction in +self._dropping]
        faults += ["refuses"] if self._refusing else []
        return f"<Proxy {self.name} on {self.port}, {len(self._links)} open, {', '.join(faults) or 'passes'}>"

    @property
    def url(self) -> str:
        """The URL of the proxy for a client of Redis."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def delay_s(self) -> float:
        """How late each byte arrives at present."""
        return max(self._delays_s, default=0.0)

    def statistics(self) -> ProxyStatistics:
        """Counts since the start."""
        count = self._count
        return ProxyStatistics(
            len(self._links), count["accepted"], count["refused"], count["cut"], count["up"], count["down"]
        )

    async def run(self, *, task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until cancelled; then every connection is reset."""
        listener = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await listener.bind(("127.0.0.1", self.port))
        listener.listen(256)
        self.port = listener.getsockname()[1]
        with listener:
            async with trio.open_nursery() as nursery:
                task_status.started(self)
                while True:
                    client, _ = await listener.accept()
                    nursery.start_soon(self._serve, client)

    # The faults.

    @contextlib.contextmanager
    def delayed(self, seconds: float) -> Iterator[None]:
        """Delays every byte in both directions by `seconds`. The number of bytes makes no difference."""
        self._delays_s.append(seconds)
        try:
            yield
        finally:
            self._delays_s.remove(seconds)

    @contextlib.contextmanager
    def black_holed(self, *directions: Direction) -> Iterator[None]:
        """Lets nothing pass in these directions (default: both), without an error. At the end all bytes arrive."""
        with self._on(self._silenced, directions or ("up", "down")):
            yield

    @contextlib.contextmanager
    def losing_replies(self) -> Iterator[None]:
        """Passes commands on and drops the replies. At the end all connections are reset."""
        with self._on(self._dropping, ("down",)):
            try:
                yield
            finally:
                self.cut()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Resets all open connections, and each new connection at once."""
        self._refusing += 1
        self.cut()
        try:
            yield
        finally:
            self._refusing -= 1

    def cut(self) -> int:
        """Resets all open connections on both sides; returns how many there were."""
        links = list(self._links)
        for link in links:
            link.reset()
        self._count["cut"] += len(links)
        return len(links)

    @contextlib.contextmanager
    def _on(self, fault: Counter[Direction], directions: tuple[Direction, ...]) -> Iterator[None]:
        fault.update(directions)
        try:
            yield
        finally:
            fault.subtract(directions)

    async def _wait_audible(self, direction: Direction) -> None:
        await poll_until(lambda: self._silenced[direction] <= 0, every_s=0.005)

    # One connection.

    async def _serve(self, client: trio.socket.SocketType) -> None:
        self._count["accepted"] += 1
        server = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        link = _Link(client, server)
        self._links.add(link)
        try:
            if self._refusing:
                self._count["refused"] += 1
                return
            # A black hole swallows the handshake of a connection too.
            await self._wait_audible("up")
            await server.connect(("127.0.0.1", self._target_port))
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with trio.open_nursery() as nursery:
                # The first side that ends ends the other.
                end = functools.partial(nursery.cancel_scope.cancel, reason="one side of the connection ended")
                nursery.start_soon(self._pump, client, server, "up", end)
                nursery.start_soon(self._pump, server, client, "down", end)
        except* (OSError, trio.ClosedResourceError, trio.BrokenResourceError):
            pass
        finally:
            self._links.discard(link)
            link.reset()

    async def _pump(
        self,
        source: trio.socket.SocketType,
        sink: trio.socket.SocketType,
        direction: Direction,
        end: Callable[[], None],
    ) -> None:
        send, receive = trio.open_memory_channel[tuple[float, bytes]](_PIECES_UNDER_WAY)

        async def read() -> None:
            async with send:
                while True:
                    data = await source.recv(_PIECE_BYTES)
                    if not data:
                        return
                    await send.send((trio.current_time() + self.delay_s, data))

        async def write() -> None:
            stream = trio.SocketStream(sink)
            async with receive:
                async for due, data in receive:
                    if due > trio.current_time():
                        await trio.sleep_until(due)
                    await self._wait_audible(direction)
                    if not self._dropping[direction]:
                        self._count[direction] += len(data)
                        await stream.send_all(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(write)
        end()


@attrs.define(eq=False)
class _Link:
    """The two sockets of one connection: to the client and to the server."""

    client: trio.socket.SocketType
    server: trio.socket.SocketType

    def reset(self) -> None:
        for each in (self.client, self.server):
            if each.fileno() >= 0:
                with contextlib.suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
                each.close()
