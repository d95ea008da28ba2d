"""The nodes, the clients, and the faults that strike them."""

import collections
import contextvars
import itertools
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import trio
from trio.testing import MockClock

import llmactors.cluster.node_store
import llmactors.http.client_socket
import llmactors.redislink.link
import llmactors.system.cluster_node
import llmactors.telemetry.tree
from llmactors.actors import MisuseError
from llmactors.cluster.process_id import ProcessId
from llmactors.config import Settings
from llmactors.ledger.redis.ledger import RedisLedger
from llmactors.redislink.names import RedisNames
from llmactors.system.cluster_node import ClusterNode
from llmactors.system.gateway_node import GatewayNode
from llmactors.system.worker_node import WorkerNode
from llmactors.testing.checker import CheckReport, check
from llmactors.testing.node import mock_model
from llmactors.testing.returning_clients import LoadSettings, StreamLoad
from llmactors.testing.usage_oracle import UsageSeen, usage_seen
from tests.chaos.order import Monitor, Order
from tests.simulation.content.judge import ContentReport, judge
from tests.simulation.content.load import ContentLoad, ContentSettings
from tests.simulation.faults import FORGETS, Fault
from tests.simulation.listening import Clients, SimulatedAddress
from tests.simulation.network import Host, Network, dialer
from tests.simulation.store import CLOCK_MS, Store

_HOST: contextvars.ContextVar[Host] = contextvars.ContextVar("the host whose task runs")
_LONG_S = 3600.0
"""How long the record of a node is kept. The server counts this in real time, of which a run takes more on a busy
machine."""
_MOST_S = 400.0
"""The most virtual seconds of a run."""


@attrs.frozen(kw_only=True)
class WorldSettings:
    """How large a simulation is."""

    gateways: int = 2
    workers: int = 2
    clients: int = 6
    tokens: int = 24
    slots: int = 3
    step_ms: int = 40
    load_s: float = 6.0
    """How long new requests come, at least."""
    content: ContentSettings = attrs.field(factory=ContentSettings)


@attrs.define(eq=False)
class Process:
    """One process of the cluster, which is started again whenever it ends."""

    name: str
    make: Callable[["Process"], ClusterNode]
    host: Host
    port: int = 0
    node: ClusterNode | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ended: trio.Event = attrs.field(factory=trio.Event)


@attrs.frozen
class Outcome:
    """What became of one run."""

    report: CheckReport
    trace: str
    """A digest of all commands that reached the store, with their times."""
    virtual_s: float
    commands: int
    strikes: dict[str, int]
    exits: list[str]
    """Why nodes ended by themselves."""
    order: Order
    """The order of all writes, as the server saw it; empty where the server forgot some of them."""
    content: ContentReport
    """What the clients saw that ask for more than plain text; nothing where the server forgot some of it."""
    is_late: bool
    """Whether requests were still open when the time of the run was over."""
    cpu_s: float
    """The processor time of the run, in seconds."""


class World:
    """One simulation. `install` replaces the network, the addresses and the ids of processes of this process."""

    def __init__(
        self, store: Store, seed: int, schedule: Sequence[Fault], settings: WorldSettings, folder: Path
    ) -> None:
        self._store = store
        self._seed = seed
        self._schedule = schedule
        self._settings = settings
        self._folder = folder
        self._rng = random.Random(f"world of {seed}")
        self._network = Network(store, random.Random(f"network of {seed}"))
        self._network.host_of = _HOST.get
        self._clients = Clients(folder)
        self._processes: dict[str, Process] = {}
        self._ports = itertools.count(20_001)
        self._dead: set[int] = set()
        self._pids = itertools.count(1)
        self._snapshots: collections.deque[dict[bytes, tuple[bytes, int]]] = collections.deque(maxlen=2)
        self._strikes: collections.Counter[str] = collections.Counter()
        self._exits: list[str] = []

    def install(self) -> None:
        """Puts the simulated network, addresses and processes in place of the machine's."""
        for module, name, replacement in (
            (llmactors.redislink.link, "dial", dialer(self._network)),
            (llmactors.http.client_socket, "_connect", self._clients.connect),
            (llmactors.system.cluster_node, "RedisLedger", _VirtualLedger),
            (llmactors.cluster.node_store, "TTL_S", _LONG_S),
            (llmactors.telemetry.tree, "watch_event_loop", _watch_nothing),
            (ProcessId, "own", staticmethod(lambda: ProcessId("simulation", next(self._pids)))),
            (ProcessId, "is_dead", lambda process: process.pid in self._dead),
        ):
            setattr(module, name, replacement)

    async def run(self, clock: MockClock) -> Outcome:
        """Runs until the schedule is over and every accepted request has ended."""
        load = StreamLoad(
            self._urls,
            LoadSettings(
                clients=self._settings.clients,
                max_tokens=self._settings.tokens,
                model="mock",
                replay_share=0.3,
                settle_s=120.0,
                think_s=0.3,
            ),
            seed=self._seed,
        )
        content = ContentLoad(self._urls, self._settings.content, seed=self._seed)
        begun = time.process_time()
        with trio.move_on_after(_MOST_S) as limit:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._network.run)
                for number in range(self._settings.workers):
                    nursery.start_soon(self._keep_running, f"w{number + 1}", self._make_worker)
                for number in range(self._settings.gateways):
                    nursery.start_soon(self._keep_running, f"g{number + 1}", self._make_gateway)
                async with trio.open_nursery() as loads:
                    loads.start_soon(load.run)
                    if self._forgets:
                        nursery.start_soon(self._take_snapshots)
                    else:
                        # After the end of a call nobody has a second copy of what Redis forgets.
                        loads.start_soon(content.run)
                    await self._strike(clock)
                    await trio.sleep(max(0.0, self._settings.load_s - trio.current_time()))
                    load.stop()
                    content.stop()
                for process in self._processes.values():
                    self._network.kill(process.host)
                nursery.cancel_scope.cancel(reason="the simulation is over")
        return Outcome(
            report=check(load.history, strikes=self._strikes, usage=self._usage()),
            trace=self._network.trace.hexdigest(),
            virtual_s=trio.current_time(),
            commands=self._network.commands,
            strikes=dict(self._strikes),
            exits=self._exits,
            order=Order(),
            content=judge(content.readers, self._store.client, RedisNames(Settings().namespace)),
            is_late=limit.cancelled_caught,
            cpu_s=time.process_time() - begun,
        )

    def _usage(self) -> UsageSeen | None:
        """What Redis says of usage; None where Redis forgot what it had said."""
        return None if self._forgets else usage_seen(self._store.client, RedisNames(Settings().namespace))

    @property
    def _forgets(self) -> bool:
        return any(fault.kind == FORGETS for fault in self._schedule)

    def _urls(self) -> list[str]:
        return [f"http://127.0.0.1:{each.port}" for each in self._processes.values() if each.port]

    # The processes.

    def _make_worker(self, process: Process) -> ClusterNode:
        options = f"step_ms={self._settings.step_ms},slots={self._settings.slots}"
        return WorkerNode(self._node_settings(process), [mock_model(options)], None)

    def _make_gateway(self, process: Process) -> ClusterNode:
        process.port = next(self._ports)
        return GatewayNode(self._node_settings(process), SimulatedAddress(self._folder, process.port))

    def _node_settings(self, process: Process) -> Settings:
        # Logs are kept for longer than a run takes with all its pauses, so that all of them can be judged at its end.
        return attrs.evolve(
            Settings(), redis="redis://simulation", name=process.name, lease_s=1.5, retention_s=2 * _MOST_S
        )

    async def _keep_running(self, name: str, make: Callable[[Process], ClusterNode]) -> None:
        process = self._processes[name] = Process(name, make, Host(name))
        async with trio.open_nursery() as nursery:
            while True:
                process.host, process.ended, process.scope = Host(name), trio.Event(), trio.CancelScope()
                # The rest of a killed process, which nobody hears of, ends beside its successor.
                nursery.start_soon(self._run_once, process, process.host, process.ended, process.scope)
                await process.ended.wait()
                await trio.sleep(self._rng.uniform(0.05, 0.8))

    async def _run_once(self, process: Process, host: Host, ended: trio.Event, scope: trio.CancelScope) -> None:
        _HOST.set(host)
        node = process.node = process.make(process)
        try:
            with scope:
                await node.run()
        except* Exception as group:  # noqa: BLE001 - `up` starts a node again after any error
            if not host.dead:
                self._exits.append(f"{process.name} at {trio.current_time():.2f} s: {group.exceptions[0]!r}")
        finally:
            self._dead.add(node._record.process.pid)
            ended.set()

    def _kill(self, process: Process) -> None:
        self._network.kill(process.host)
        if process.port:
            self._clients.cut(process.port)
            (self._folder / f"gateway-{process.port}").unlink(missing_ok=True)
        if process.node is not None:
            self._dead.add(process.node._record.process.pid)
        process.scope.cancel(reason="kill -9")
        process.ended.set()

    # The faults.

    async def _strike(self, clock: MockClock) -> None:
        async with trio.open_nursery() as nursery:
            for fault in self._schedule:
                await trio.sleep_until(fault.at_s)
                self._strikes[fault.kind] += 1
                if fault.kind == "pause of everything":
                    clock.jump(fault.for_s)
                else:
                    nursery.start_soon(self._suffer, fault)

    async def _suffer(self, fault: Fault) -> None:
        network = self._network
        match fault.kind:
            case "kill a worker":
                self._kill(self._victim("w", fault))
            case "kill a gateway":
                self._kill(self._victim("g", fault))
            case "crash an actor":
                self._crash(fault)
            case "cut off a worker" | "cut off a gateway":
                host = self._victim("w" if fault.kind.endswith("worker") else "g", fault).host
                host.cut_off = True
                await trio.sleep(fault.for_s)
                host.cut_off = False
                network.changed()
            case "lose commands and replies":
                network.loss = 0.03
                await trio.sleep(fault.for_s)
                network.loss = 0.0
            case "slow network":
                network.slow_s = 0.3
                await trio.sleep(fault.for_s)
                network.slow_s = 0.0
            case "Redis away" | "Redis loses its last second":
                network.store_up = False
                network.cut_all()
                if fault.kind == FORGETS and self._snapshots:
                    self._store.restore(self._snapshots[0])
                await trio.sleep(fault.for_s)
                network.store_up = True
                network.changed()

    def _victim(self, kind: str, fault: Fault) -> Process:
        processes = [each for name, each in sorted(self._processes.items()) if name.startswith(kind)]
        return processes[int(fault.choice * len(processes)) % len(processes)]

    def _crash(self, fault: Fault) -> None:
        nodes = [each.node for _, each in sorted(self._processes.items()) if each.node is not None]
        actors = [actor for node in nodes for actor in node.tree.actors()]
        actor = actors[int(fault.choice * len(actors)) % len(actors)]
        try:
            actor.crash(OSError("a planned crash"))
        except MisuseError:
            self._strikes["(was not running)"] += 1

    async def _take_snapshots(self) -> None:
        while True:
            await trio.sleep(0.5)
            if self._network.store_up:
                self._snapshots.append(self._store.snapshot())


async def _watch_nothing(_report: Callable[[float], None]) -> None:
    """Takes the place of the watch on the event loop, whose real times differ from run to run."""
    await trio.sleep_forever()


class _VirtualLedger(RedisLedger):
    """The ledger of a node, whose calls carry a time that the store replaces by the virtual time."""

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, clock_ms=lambda: CLOCK_MS, **more)  # type: ignore[arg-type]


def simulate(store: Store, seed: int, schedule: Sequence[Fault], settings: WorldSettings) -> Outcome:
    """Runs one simulation from its beginning to its end."""
    store.clear()
    with tempfile.TemporaryDirectory(prefix="llmactors-simulation-") as folder:
        world = World(store, seed, schedule, settings, Path(folder))
        world.install()
        clock = MockClock(autojump_threshold=0)
        if any(fault.kind == FORGETS for fault in schedule):
            return trio.run(world.run, clock, clock=clock)
        with Monitor(store.port, Path(folder) / "monitor") as monitor:
            outcome = trio.run(world.run, clock, clock=clock)
        return attrs.evolve(outcome, order=monitor.order())
