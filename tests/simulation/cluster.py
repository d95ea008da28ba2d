"""The processes of a simulated cluster: each is started again when it ends, and can be killed, lost or drained."""

import contextvars
import itertools
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio

import llmactors.backends.build
import llmactors.http.client_socket
import llmactors.redislink.link
import llmactors.system.ledger_shards
import llmactors.telemetry.tree
from llmactors.cluster.process_id import ProcessId
from llmactors.config import KEYS_IN_REDIS, Settings
from llmactors.ledger.redis.ledger import RedisLedger
from llmactors.ledger.settings import LedgerSettings
from llmactors.system.cluster_node import ClusterNode
from llmactors.system.gateway_node import GatewayNode
from llmactors.system.worker_node import WorkerNode
from llmactors.testing.node import mock_model
from tests.simulation.backend import Bench, chain_model
from tests.simulation.listening import Clients, SimulatedAddress
from tests.simulation.network import Host, Network, dialer, url_of
from tests.simulation.store import CLOCK_MS
from tests.simulation.themes import WorldSettings
from tests.simulation.upstreams import Upstreams

HOST: contextvars.ContextVar[Host] = contextvars.ContextVar("the host whose task runs")
_DRAIN_S = 3.0
_RETENTION_S = 800.0
"""Logs are kept for longer than a run takes with all its pauses, so that all of them can be judged at its end."""


RunProcess = Callable[["Process", Host, trio.Event, trio.CancelScope], Awaitable[None]]


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
    code: int = -9
    """With which code it ended; that of SIGKILL while it runs."""
    kill: Callable[[], None] = lambda: None

    @property
    def is_up(self) -> bool:
        """Whether the process runs."""
        return not self.ended.is_set()


class SimulatedCluster:
    """All processes. Run `run` as a task.

    Making one puts the simulated network, addresses and ids of processes in place of the machine's.
    """

    def __init__(
        self, network: Network, bench: Bench, settings: WorldSettings, rng: random.Random, folder: Path
    ) -> None:
        self.exits: list[str] = []
        """Why nodes ended by themselves."""
        self.processes: dict[str, Process] = {}
        self._network = network
        self._bench = bench
        self._settings = settings
        self._rng = rng
        self._folder = folder
        self._clients = Clients(folder)
        self.upstreams = Upstreams(folder, self._clients, settings.slots, rng) if settings.upstreams else None
        """The servers behind one of the models; None for none."""
        self._ports = itertools.count(20_001)
        self._pids = itertools.count(1)
        self._dead: set[int] = set()
        self._nursery: trio.Nursery | None = None
        self.run_gateways: Callable[[], Awaitable[None]] | None = None
        """What runs the gateways; None: this cluster does."""
        self.tell_keeper: Callable[[Process, str], None] = lambda _process, _what: None
        """Has the keeper of a gateway upgrade, or lose its standby."""
        network.host_of = bench.host_of = HOST.get
        bench.kill_process = self._kill_own
        for module, name, replacement in (
            (llmactors.redislink.link, "dial", dialer(network)),
            (llmactors.http.client_socket, "_connect", self._clients.connect),
            (llmactors.system.ledger_shards, "RedisLedger", _ledger_of(settings)),
            (llmactors.backends.build, "installed", dict),  # no package offers a backend, and to look takes a while
            (llmactors.telemetry.tree, "watch_event_loop", _watch_nothing),
            (ProcessId, "own", staticmethod(lambda: ProcessId("simulation", next(self._pids)))),
            (ProcessId, "is_dead", lambda process: process.pid in self._dead),
        ):
            if name not in vars(module):
                raise LookupError(f"{module!r} has no {name} any more: replace it where it is now")
            setattr(module, name, replacement)

    def __repr__(self) -> str:
        return f"<SimulatedCluster {sorted(self.processes)}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps all processes running until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            if self.upstreams is not None:
                nursery.start_soon(self.upstreams.run)
            for number in range(self._settings.workers):
                nursery.start_soon(self._keep_running, f"w{number + 1}", self._make_worker)
            if self.run_gateways is not None:
                nursery.start_soon(self.run_gateways)
            for number in range(self._settings.gateways if self.run_gateways is None else 0):
                nursery.start_soon(self._keep_running, f"g{number + 1}", self._make_gateway)
            task_status.started()

    def urls(self) -> list[str]:
        """The addresses of all gateways, of which some may be down."""
        return [f"http://127.0.0.1:{each.port}" for each in self.processes.values() if each.port]

    def of_kind(self, kind: str) -> list[Process]:
        """All workers (`w`), or all gateways (`g`)."""
        return [each for name, each in sorted(self.processes.items()) if name.startswith(kind)]

    def kill(self, process: Process) -> None:
        """Does as `kill -9`."""
        self._network.kill(process.host)
        self._end(process, "kill -9")

    def lose(self, process: Process) -> None:
        """Does as the loss of a machine: nobody closes the connections of its process."""
        self._network.lose(process.host)
        self._end(process, "the machine is lost")

    def drain(self, process: Process) -> None:
        """Does as SIGTERM."""
        assert self._nursery is not None
        if process.node is not None and process.is_up:
            self._nursery.start_soon(self._shut_down, process.node, process.host)

    def kill_all(self) -> None:
        """Ends everything, after a run."""
        for process in self.processes.values():
            self._network.kill(process.host)

    async def _shut_down(self, node: ClusterNode, host: Host) -> None:
        HOST.set(host)
        await node.shut_down()

    def _kill_own(self) -> None:
        host = HOST.get()
        for process in self.processes.values():
            if process.host is host and process.is_up:
                self.kill(process)

    def _end(self, process: Process, reason: str) -> None:
        if process.port:
            self._clients.cut(process.port)
            (self._folder / f"gateway-{process.port}").unlink(missing_ok=True)
        if process.node is not None:
            self._dead.add(process.node._record.process.pid)
        process.scope.cancel(reason=reason)
        process.ended.set()

    def _make_worker(self, process: Process) -> ClusterNode:
        slots, step_ms = self._settings.slots, self._settings.step_ms
        models = [
            mock_model(f"step_ms={step_ms},slots={slots}")
            if name == "mock"
            else chain_model(name, self._bench, slots, step_ms / 1000)
            for name in self._settings.models
        ]
        if self.upstreams is not None:
            models.append(self.upstreams.model)
        return WorkerNode(self.node_settings(process.name), models, None)

    def _make_gateway(self, process: Process) -> ClusterNode:
        process.port = next(self._ports)
        return GatewayNode(self.node_settings(process.name), SimulatedAddress(self._folder, process.port))

    def node_settings(self, name: str) -> Settings:
        """Those of a gateway or worker."""
        world = self._settings
        return attrs.evolve(
            Settings(),
            redis=url_of(world.shards),
            name=name,
            lease_s=world.lease_s,
            resume_grace_s=world.resume_grace_s,
            quarantine_from_attempt=world.quarantine_from,
            preempt_after_s=world.preempt_after_s,
            max_queued=world.max_queued,
            drain_s=_DRAIN_S,
            retention_s=_RETENTION_S,
            keys=KEYS_IN_REDIS if world.tenants else None,
        )

    async def _keep_running(self, name: str, make: Callable[[Process], ClusterNode]) -> None:
        process = self.processes[name] = Process(name, make, Host(name))
        skew_s = self._rng.uniform(-self._settings.skew_s, self._settings.skew_s)
        async with trio.open_nursery() as nursery:
            while True:
                host = process.host = Host(name, skew_s=skew_s)
                process.ended, process.scope = trio.Event(), trio.CancelScope()
                # The rest of a killed process, which nobody hears of, ends beside its successor.
                nursery.start_soon(self.run_once, process, host, process.ended, process.scope)
                await process.ended.wait()
                await trio.sleep(self._rng.uniform(*self._settings.back_after_s))

    async def run_once(self, process: Process, host: Host, ended: trio.Event, scope: trio.CancelScope) -> None:
        """Runs a process to its end."""
        HOST.set(host)
        node = process.node = process.make(process)
        try:
            with scope:
                await node.run()
                process.code = 0
        except* Exception as group:  # noqa: BLE001 - `up` starts a node again after any error
            if not host.dead:
                process.code = 1
                self.exits.append(f"{process.name} at {trio.current_time():.2f} s: {group.exceptions[0]!r}")
        finally:
            self._dead.add(node._record.process.pid)
            ended.set()


async def _watch_nothing(_report: Callable[[float], None]) -> None:
    """Takes the place of the watch on the event loop, whose real times differ from run to run."""
    await trio.sleep_forever()


def _ledger_of(world: WorldSettings) -> Callable[..., RedisLedger]:
    """Makes the ledgers of nodes. Their calls carry a time that the store replaces by the virtual time."""
    given = {"retained_max": world.retained_max, "retained_tokens_max": world.retained_tokens_max}
    bounds = {name: value for name, value in given.items() if value is not None}

    def make(url: str, settings: LedgerSettings, *rest: object, **more: object) -> RedisLedger:
        own = attrs.evolve(settings, **bounds)  # type: ignore[arg-type]
        return RedisLedger(url, own, *rest, clock_ms=lambda: CLOCK_MS, **more)  # type: ignore[arg-type]

    return make
