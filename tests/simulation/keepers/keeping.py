"""Keepers and their gateways. The keeper is the real one; its processes are those of the simulation."""

import contextlib
import functools
import mmap
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import trio

import llmactors.system.standby
from llmactors.config import Settings
from llmactors.http.held_server import HeldSocket
from llmactors.keeper.gateway_process import GatewayProcess
from llmactors.keeper.process import Keeper
from llmactors.system.gateway_node import GatewayNode
from tests.simulation.cluster import Process, RunProcess
from tests.simulation.keepers.sockets import Kernel, KernelSocket, MortalLink
from tests.simulation.network import Host

if TYPE_CHECKING:
    from llmactors.system.cluster_node import ClusterNode

_LIMIT = 256
_WARM_WITHIN_S = 10.0
_FROZEN_S = 0.0
"""No gateway is frozen here, and the system knows nothing of their processes."""
_START_S = (0.05, 0.6)
"""How long a process takes until it is one of Python."""
_NOTED_S = 0.002
"""How late a keeper hears of the end of a process."""
_MOST_EARLY = 2
"""How many gateways die in a row before they have served for a while: of more, the keeper thinks that a connection
kills them."""
_SHORTEST_S = 1e-6
"""Less than this does not move the virtual clock."""


class SimulatedGateway(GatewayProcess):
    """One gateway, as the keeper sees it."""

    def __init__(self, begin: Callable[[socket.socket], Process], shut_down: Callable[[Process], None]) -> None:
        self._begin = begin
        self._shut_down = shut_down
        super().__init__((), {}, {})

    def _spawn(
        self, theirs: socket.socket, _command: Sequence[str], _environ: Mapping[str, str], _fds: Mapping[str, int]
    ) -> int:
        self.process = self._begin(theirs.dup())
        self.code = -signal.SIGKILL
        return theirs.fileno()

    def signal(self, number: int) -> None:
        """As the system does, for the signals that a keeper sends."""
        if not self.process.is_up:
            return
        if number == signal.SIGKILL:
            self.process.kill()
        else:
            self._shut_down(self.process)


class SimulatedKeeper(Keeper):
    """A keeper in this process. Run `serve` as a task."""

    def __init__(self, gateways: "HeldGateways", name: str, port: int) -> None:
        super().__init__(gateways.kernel.bind(port), _LIMIT, (_WARM_WITHIN_S, _FROZEN_S), "text", ())
        self.name = name
        self.port = port
        self.wrong: list[str] = []
        """What the keeper said of connections that it cut, and of what it could not do."""
        self.token = self._token = f"{gateways.rng.getrandbits(128):032x}"
        self._log = functools.partial(self._say)
        self._gateways = gateways
        self._early = 0
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def _say(self, level: str, event: str) -> None:
        cuts = "are cut" in event and "and 0 are cut" not in event
        if cuts or (level in {"error", "critical"} and not event.startswith("not upgraded")):
            self.wrong.append(f"{self.name}: {event}")

    @property
    def serves(self) -> bool:
        """Whether a gateway has taken up all connections."""
        return self._serves

    async def serve(self) -> None:
        """Serves until cancelled, or until it ends by itself."""
        self._watch(self._reader, lambda: self._obey(os.read(self._reader, 256)))
        while self._code is None:
            wait_s = self._tend(time.monotonic())
            with trio.move_on_after(wait_s and max(wait_s, _SHORTEST_S)):
                await trio.lowlevel.wait_readable(self._epoll.fileno())
            for fd, _ in self._epoll.poll(0):
                if fd in self._handlers:
                    self._handlers[fd]()

    def tell(self, number: int) -> None:
        """Sends the keeper a signal."""
        os.write(self._writer, bytes([number]))

    def may_lose(self, host: Host) -> Process | None:
        """The process of this host, if it may be killed without a connection getting the blame."""
        active = self._active
        if isinstance(active, SimulatedGateway) and active.process.host is host and self._early < _MOST_EARLY:
            return active.process if self._has_served else None
        return None

    def lose_standby(self) -> None:
        """Kills the gateway that waits."""
        if isinstance(self._standby, SimulatedGateway) and self._has_served:
            self._standby.signal(signal.SIGKILL)

    def slots_of_process(self) -> mmap.mmap:
        """What a gateway maps."""
        return mmap.mmap(self._table.slots, 0)

    # In place of what the system does.

    def _start(self) -> GatewayProcess:
        process = SimulatedGateway(lambda theirs: self._gateways.begin(self, theirs), self._gateways.shut_down)
        self._watch(process.channel.fileno(), lambda: self._hear(process))
        self._gateways.nursery.start_soon(self._wait_end, process)
        return process

    async def _wait_end(self, process: SimulatedGateway) -> None:
        await process.process.ended.wait()
        await trio.sleep(self._gateways.rng.uniform(0.0, _NOTED_S))
        self.tell(signal.SIGCHLD)

    def _reap(self) -> None:
        for process in self._processes():
            assert isinstance(process, SimulatedGateway)
            if not process.process.is_up:
                self._has_ended(process, process.process.code)

    def _activate(self, process: GatewayProcess) -> None:
        super()._activate(process)
        assert isinstance(process, SimulatedGateway)
        self._gateways.processes[self.name] = process.process

    def _lose_active(self, process: GatewayProcess, code: int, how: str) -> None:
        is_early = not (self._serves and time.monotonic() >= self._stable_at)
        self._early = self._early + 1 if is_early else 0
        super()._lose_active(process, code, how)


@attrs.define(eq=False)
class HeldGateways:
    """All keepers of a cluster. Run `run` as a task."""

    kernel: Kernel
    rng: random.Random
    settings_of: Callable[[str], Settings]
    run_process: RunProcess
    """Runs a process of the cluster to its end."""
    kill: Callable[[Process], None]
    shut_down: Callable[[Process], None]
    processes: dict[str, Process]
    """The active gateway of each keeper."""
    keepers: list[SimulatedKeeper] = attrs.field(factory=list)
    nursery: trio.Nursery = attrs.field(init=False)

    async def run(self, count: int) -> None:
        """Runs so many keepers until cancelled."""
        # Would stop the collector of this process, of which there is one for all gateways.
        setattr(llmactors.system.standby, "calm_garbage_collector", lambda: None)  # noqa: B010 - no exported name
        async with trio.open_nursery() as self.nursery:
            for number in range(count):
                keeper = SimulatedKeeper(self, f"g{number + 1}", 20_001 + number)
                self.keepers.append(keeper)
                self.nursery.start_soon(keeper.serve)

    async def wait_serving(self) -> None:
        """Returns once every keeper has a gateway that serves."""
        while not self.keepers or not all(keeper.serves for keeper in self.keepers):  # noqa: ASYNC110 - no event says so
            await trio.sleep(0.05)

    def kill_by_fate(self, host: Host) -> bool:
        """Kills the process of this host, if it is one that may die now. Returns whether it died."""
        for keeper in self.keepers:
            if (process := keeper.may_lose(host)) is not None:
                self.kill(process)
                return True
        return False

    def begin(self, keeper: SimulatedKeeper, theirs: socket.socket) -> Process:
        """A process that begins now."""
        host = Host(keeper.name)
        links: list[MortalLink] = []

        def make(_process: Process) -> "ClusterNode":
            slots, address = keeper.slots_of_process(), ("127.0.0.1", keeper.port)
            link = MortalLink(theirs, slots, keeper.token, address, end_process=lambda: self._end_by_itself(process))
            link.kernel = self.kernel
            links.append(link)
            return GatewayNode(self.settings_of(keeper.name), HeldSocket(link))

        process = Process(keeper.name, make, host, keeper.port)
        process.kill = lambda: self.kill(process)
        self.nursery.start_soon(self._live, process, theirs, links)
        return process

    def _end_by_itself(self, process: Process) -> None:
        if not process.host.dead:
            process.code = 1
            self.kill(process)

    async def _live(self, process: Process, theirs: socket.socket, links: list[MortalLink]) -> None:
        await trio.sleep(self.rng.uniform(*_START_S))
        if process.is_up:
            await self.run_process(process, process.host, process.ended, process.scope)
        # The system closes all that a process has open.
        theirs.close()
        for link in links:
            for given in link._waiting.values():
                sock = given.socket
                if isinstance(sock, KernelSocket):
                    with contextlib.suppress(OSError):
                        sock._raw.close()
