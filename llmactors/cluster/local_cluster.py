"""A cluster on one machine: a Redis server, workers and gateways, each a child process under one supervisor."""

import json
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import structlog
import trio

from llmactors.actors import (
    ActorDied,
    ActorRef,
    ActorSpec,
    Backoff,
    Observer,
    Phase,
    Restart,
    SupervisorSpec,
    Tree,
    run_phases,
)
from llmactors.cluster.child import ChildActor, ChildSpec, EndProcess
from llmactors.cluster.own_server import GRACE_S, OwnServer
from llmactors.config import Settings, child_environment
from llmactors.errors import BindError
from llmactors.telemetry.logs import FAILURE_LOGGER, FAILURE_PREFIX
from llmactors.telemetry.tree import log_phases

log = structlog.get_logger("llmactors")

QUICK = Backoff(first_s=0.1, cap_s=2.0, stable_s=5.0)
_INTENSITY = 1000
"""Restarts in a minute. A child that crashes again and again is restarted every other second, without end."""
_START_S = 600.0
_DRAIN_MARGIN_S = 8.0
_LAST_PORT = 65535


@attrs.frozen
class ClusterMember:
    """One node of the cluster."""

    name: str
    role: str
    url: str
    """The address of a gateway, or of a worker's metrics."""


class LocalCluster:
    """`gateways` and `workers` on 127.0.0.1, and a server with its data in `data` unless `settings.redis` names one.

    `on_ready` is told of each node that is ready, with the line by which the node said so; `on_line` gets every other
    line.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        gateways: int,
        workers: int,
        data: Path,
        on_ready: Callable[[str, str], None],
        on_line: Callable[[str, str], None],
        observer: Observer,
    ) -> None:
        self._on_ready = on_ready
        self._on_line = on_line
        self._own_server: OwnServer | None = None
        server: list[ActorSpec] = []
        if settings.redis is None:
            self._own_server = OwnServer(data, on_ready)
            settings = attrs.evolve(settings, redis=self._own_server.url)
            server.append(self._child(self._own_server.child()))
        self.settings = settings
        self._environ = child_environment(settings)
        worker_binds = following(settings.metrics_bind, workers)
        gateway_binds = following(settings.bind, gateways, strict=True)
        self.members = (
            *(ClusterMember(f"w{n}", "worker", f"http://{bind}") for n, bind in enumerate(worker_binds, 1)),
            *(ClusterMember(f"g{n}", "gateway", f"http://{bind}") for n, bind in enumerate(gateway_binds, 1)),
        )
        self._workers = [self._node(member, "--metrics-bind") for member in self.members[:workers]]
        self._gateways = [self._node(member, "--bind") for member in self.members[workers:]]
        names = [*(["redis"] if server else []), *(member.name for member in self.members)]
        # Each child has a supervisor of its own, so that a slow start delays no restart of another child.
        each = tuple(
            SupervisorSpec(name, (spec,), intensity=_INTENSITY, period_s=60.0, backoff=QUICK)
            for name, spec in zip(names, (*server, *self._workers, *self._gateways), strict=True)
        )
        root = SupervisorSpec("up", each)
        self.tree = Tree(root, observer=observer)
        self._started = False

    def __repr__(self) -> str:
        return f"<LocalCluster {len(self._gateways)} gateways, {len(self._workers)} workers>"

    @property
    def ends_within_s(self) -> float:
        """The time that `shut_down` may take, in seconds."""
        return 2 * self._grace_s + GRACE_S

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until `shut_down` or a cancel. Raises `ChildFailed` if a process cannot start the first time."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.tree.run)
                self._started = True
                task_status.started()
        finally:
            if self._own_server is not None:
                self._own_server.close()

    async def shut_down(self) -> None:
        """Drains the gateways, then the workers, and ends the Redis server."""
        if not self._started:
            self.tree.stop()
            return
        each_s = self._grace_s
        reports = await run_phases(
            [
                Phase("gateways", lambda: _end_all(self._gateways), limit_s=each_s),
                Phase("workers", lambda: _end_all(self._workers), limit_s=each_s),
                Phase("stop", self._stop),
            ],
            overall_s=self.ends_within_s,
        )
        log_phases(reports)

    @property
    def _grace_s(self) -> float:
        return self.settings.drain_s + _DRAIN_MARGIN_S

    async def _stop(self) -> None:
        self.tree.stop()

    def _node(self, member: ClusterMember, bind_flag: str) -> ActorSpec:
        command = [sys.executable, "-m", "llmactors", member.role, "--name", member.name]
        command += [bind_flag, member.url.removeprefix("http://")]
        start = f"llmactors {member.role} {member.name} "
        return self._child(
            ChildSpec(
                name=member.name,
                command=command,
                environ=self._environ,
                ready=lambda line: line.startswith(start),
                on_ready=lambda line: self._on_ready(member.name, line),
                on_line=lambda line: self._on_line(member.name, line),
                reason=_reason_of_node,
                grace_s=self._grace_s,
            )
        )

    @staticmethod
    def _child(spec: ChildSpec) -> ActorSpec:
        return ActorSpec(
            "process",
            lambda: ChildActor(spec),
            # A node that somebody ended in order, by SIGTERM, is not restarted.
            restart=Restart.TRANSIENT,
            start_s=_START_S,
            grace_s=0.5,
            cleanup_s=spec.grace_s + _DRAIN_MARGIN_S,
        )


def _reason_of_node(line: str) -> str:
    """Why a node failed, where `line` is the last line of its command, in either form of the log."""
    if line.startswith(FAILURE_PREFIX):
        return line.removeprefix(FAILURE_PREFIX)
    if FAILURE_LOGGER not in line:
        return ""
    try:
        found = json.loads(line)
    except ValueError:
        return ""
    ours = isinstance(found, dict) and (found.get("logger"), found.get("level")) == (FAILURE_LOGGER, "critical")
    return str(found.get("event", "")) if ours else ""


async def _end_all(children: Sequence[ActorSpec]) -> None:
    async with trio.open_nursery() as nursery:
        for child in children:
            nursery.start_soon(_end, child.ref)


async def _end(child: ActorRef[EndProcess]) -> None:
    try:
        await child.ask(EndProcess())
    except ActorDied:
        return  # the process has ended by itself


def free_port() -> int:
    """A port of 127.0.0.1 that no process uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def following(bind: str, count: int, *, strict: bool = False) -> list[str]:
    """`bind` and the next addresses, `count` in all. Port 0 stands for any free port.

    In place of a port that is in use, another free port is taken, or with `strict` `BindError` is raised.
    """
    host, _, port = bind.rpartition(":")
    found: list[str] = []
    for number in range(count):
        wanted = int(port) + number if port != "0" else 0
        if wanted > _LAST_PORT:
            raise BindError(f"there are not {count} ports from {bind} on: the last port is {_LAST_PORT}")
        if wanted and not _is_free(host, wanted):
            if strict:
                raise BindError(f"cannot listen on {host}:{wanted}: another process listens there")
            wanted = 0
        while not wanted or f"{host}:{wanted}" in found:
            wanted = free_port()
        found.append(f"{host}:{wanted}")
    return found


def _is_free(host: str, port: int) -> bool:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError:
        return False
    return True
