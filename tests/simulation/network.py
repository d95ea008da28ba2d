"""The network between the nodes and the store: latency, lost commands and replies, partitions, dead hosts."""

import collections
import hashlib
import random
from collections.abc import Callable, Sequence

import attrs
import trio

from llmactors.redislink.address import Address, Endpoint
from llmactors.redislink.errors import Unreachable
from llmactors.redislink.settings import LinkSettings
from tests.simulation.store import Store, receive_nowait


@attrs.define(eq=False)
class Host:
    """One process of the cluster, as the network sees it."""

    name: str
    cut_off: bool = False
    """Whether nothing passes between the host and the store, in both directions, while connections stay open."""
    deaf: bool = False
    """Whether nothing passes from the store to the host, while what the host sends arrives."""
    skew_s: float = 0.0
    """How wrong the host's clock is."""
    dead: bool = False
    """Whether the process was killed."""
    lines: "list[Line]" = attrs.field(factory=list)


@attrs.define(eq=False)
class Server:
    """A store as the network sees it."""

    store: Store
    up: bool = True
    stands_still: bool = False
    """Whether the store executes nothing, while connections to it stay open."""


class Network:
    """All connections to the stores: one, or a ledger's shards. Run `run` as a task."""

    def __init__(self, store: Store, rng: random.Random, shards: Sequence[Store] = ()) -> None:
        self.servers = tuple(Server(each) for each in (store, *shards))
        self.loss = 0.0
        """The share of commands that never arrive, and of replies that never come. Both end the connection."""
        self.slow_s = 0.0
        """How much longer everything takes."""
        self.disk_s = 0.0
        """How long the store's disk takes to sync, before which no reply leaves."""
        self.lost: collections.Counter[str] = collections.Counter()
        self.commands = 0
        self.trace = hashlib.sha256()
        self._rng = rng
        self._lines: list[Line] = []
        self._changed = trio.Event()
        self._nursery: trio.Nursery | None = None
        self.host_of: Callable[[], Host] = lambda: Host("nobody")

    def __repr__(self) -> str:
        return f"<Network {len(self._lines)} lines, {self.commands} commands>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carries bytes until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def latency_s(self) -> float:
        """How long the next bytes are under way."""
        return self._rng.uniform(0.0002, 0.003) + self.slow_s * self._rng.random()

    def is_lost(self) -> bool:
        """Whether the next bytes are lost."""
        return self.loss > 0 and self._rng.random() < self.loss

    async def dial(self, host: Host, server: Server) -> "Line":
        """A new connection of a host to a server. Raises `Unreachable`."""
        await trio.sleep(self.latency_s())
        while host.cut_off or host.deaf or host.dead:
            await self.wait_change()
        if not server.up:
            raise Unreachable("cannot connect to the simulated Redis: it is down")
        line = Line(self, host, server)
        self._lines.append(line)
        host.lines.append(line)
        assert self._nursery is not None
        self._nursery.start_soon(line.carry_up)
        self._nursery.start_soon(line.carry_down)
        return line

    async def wait_change(self) -> None:
        """Returns when a host or the store has come back, or gone."""
        await self._changed.wait()

    def changed(self) -> None:
        """Says that a host or the store has come back, or gone."""
        self._changed.set()
        self._changed = trio.Event()

    def cut_all(self, server: Server) -> None:
        """Ends all connections to a server, as a server does that dies."""
        for line in tuple(self._lines):
            if line.server is server:
                line.cut("the server died")
        self.changed()

    def cut_connections(self, host: Host) -> None:
        """Ends all connections of a host that goes on running, with what is under way on them."""
        for line in tuple(host.lines):
            line.cut("the network dropped the connection")

    def lose(self, host: Host) -> None:
        """Loses a host without a word: its connections stay open on the other side."""
        host.cut_off = host.dead = True
        self.changed()

    def operate(self, server: Server, move: Callable[[], object]) -> None:
        """Has an operator change the store, and takes up what that causes on all connections."""
        move()
        server.store.barrier()
        self._take_up(server)

    def kill(self, host: Host) -> None:
        """Ends all connections of a host. Of what the host has sent, some still arrives."""
        host.dead = True
        for line in tuple(host.lines):
            if self._rng.random() < 0.5:
                line.deliver_rest()
            line.cut("the host died")
        self.changed()

    def execute(self, line: "Line", commands: bytes) -> None:
        """Has the store execute commands, and takes up what they cause on all connections."""
        self.commands += 1
        self.trace.update(b"%.6f %s " % (trio.current_time(), line.host.name.encode()) + commands)
        line.server.store.execute(line.socket, commands)
        self._take_up(line.server)

    def _take_up(self, server: Server) -> None:
        for each in self._lines:
            if each.server is server:
                each.take_up()

    def forget(self, line: "Line") -> None:
        """Drops an ended connection."""
        self._lines.remove(line)
        line.host.lines.remove(line)


class Line:
    """One connection of a host to a store: the `Transport` of the host's link."""

    def __init__(self, network: Network, host: Host, server: Server) -> None:
        self.host = host
        self.server = server
        self.socket = server.store.connect()
        self._network = network
        self._up: collections.deque[tuple[float, bytes]] = collections.deque()
        self._down: collections.deque[tuple[float, bytes]] = collections.deque()
        self._arrived = bytearray()
        self._sent, self._answered, self._readable = trio.Event(), trio.Event(), trio.Event()
        self._closed = False
        self._ended = False

    def __repr__(self) -> str:
        return f"<Line of {self.host.name} {'closed' if self._closed else 'open'}>"

    # The host's side.

    def send_nowait(self, data: bytes) -> int:
        if self._closed or self._ended:
            raise trio.BrokenResourceError
        self._up.append((trio.current_time() + self._network.latency_s(), bytes(data)))
        self._sent.set()
        return len(data)

    async def send_all(self, data: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.send_nowait(bytes(data))

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self._arrived and not self._ended and not self._closed:
            self._readable = trio.Event()
            await self._readable.wait()
        if self._closed:
            raise trio.ClosedResourceError
        data = bytes(self._arrived)
        self._arrived.clear()
        return data

    def close(self) -> None:
        """Closes the connection. What was sent before may still arrive, as the kernel sends it."""
        if not self._closed:
            self._closed = True
            self._readable.set()
            self._sent.set()

    # The network's side.

    async def carry_up(self) -> None:
        """Carries commands to the store."""
        while not self._ended:
            if not self._up:
                if self._closed:
                    while self.host.cut_off and not self._ended:
                        await self._network.wait_change()
                    self.cut("closed by the host")
                    return
                self._sent = trio.Event()
                await self._sent.wait()
                continue
            await trio.sleep_until(self._up[0][0])
            while (self.host.cut_off or self.server.stands_still) and not self._ended:
                await self._network.wait_change()
            if not self._up:
                return
            _, commands = self._up.popleft()
            if self._network.is_lost():
                self._network.lost["commands"] += 1
                self.cut("a command was lost")
                return
            self._network.execute(self, commands)
            if self._network.is_lost():
                self._network.lost["replies"] += 1
                self._down.clear()
                self.cut("a reply was lost")

    async def carry_down(self) -> None:
        """Carries replies and pushes to the host."""
        while not self._ended:
            if not self._down:
                self._answered = trio.Event()
                await self._answered.wait()
                continue
            await trio.sleep_until(self._down[0][0])
            while (self.host.cut_off or self.host.deaf) and not self._ended:
                await self._network.wait_change()
            if not self._down:
                return
            self._arrived += self._down.popleft()[1]
            self._readable.set()

    def take_up(self) -> None:
        """Takes what the store has written to this connection."""
        if data := receive_nowait(self.socket):
            self._down.append((trio.current_time() + self._network.latency_s() + self._network.disk_s, data))
            self._answered.set()

    def deliver_rest(self) -> None:
        """Executes what was under way to the store."""
        while self._up and not self._ended:
            self._network.execute(self, self._up.popleft()[1])

    def cut(self, _reason: str) -> None:
        """Ends the connection for both sides."""
        if self._ended:
            return
        self._ended = True
        self._up.clear()
        self._down.clear()
        for event in (self._sent, self._answered, self._readable):
            event.set()
        self.socket.close()
        self._network.forget(self)
        self._network.changed()


def url_of(servers: int) -> str:
    """The setting `redis` of nodes of so many servers."""
    return ",".join(["redis://simulation", *(f"redis://simulation-{number}" for number in range(1, servers))])


def server_of(host: str) -> int:
    """The number of the server at an address of `url_of`."""
    return int(host.partition("-")[2] or 0)


def dialer(network: Network) -> Callable[[Address, Endpoint, LinkSettings], object]:
    """What takes the place of `redislink.dial.dial`: connections of the host whose task dials."""

    async def dial(_address: Address, endpoint: Endpoint, _settings: LinkSettings) -> Line:
        return await network.dial(network.host_of(), network.servers[server_of(endpoint.host)])

    return dial
