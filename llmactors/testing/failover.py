"""A cluster whose Redis server has a replica and three Sentinels, and the failovers of it."""

import contextlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import redis
import trio

from llmactors.redislink.binary import any_server_binary
from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.host import free_port
from llmactors.testing.nemeses import REDIS_AWAY, Nemesis
from llmactors.testing.redis_server import RedisServer

SERVICE = "main"
_SENTINELS = 3
_DOWN_AFTER_MS = 1000
_FAILOVER_S = 150.0
_HIGHEST_PORT = 55535


class Sentinels:
    """Three Sentinels that watch one master, and name another one where the master does not answer for a second."""

    def __init__(self, binary: str | None, master: RedisServer) -> None:
        self._binary = binary or any_server_binary()
        self._master = master
        self._directory = Path()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.ports: list[int] = []

    def __repr__(self) -> str:
        return f"<Sentinels on {self.ports}>"

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="llmactors-sentinels-"))
        for number in range(_SENTINELS):
            port = free_port(_HIGHEST_PORT)
            file = self._directory / f"{number}.conf"
            # A Sentinel writes into its file what it learns.
            file.write_text(
                f"bind 127.0.0.1\nport {port}\ndir {self._directory}\nlogfile {number}.log\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {self._master.port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {SERVICE} 3000\n"
            )
            self._processes.append(subprocess.Popen([self._binary, str(file), "--sentinel"]))  # noqa: S603 - our own command
            self.ports.append(port)
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def url(self) -> str:
        """The URL of the master for a node."""
        return f"sentinel://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/{SERVICE}"

    def master_ports(self) -> list[int]:
        """The port of the master, as each Sentinel names it that answers."""
        found = []
        for port in self.ports:
            with contextlib.suppress(*REDIS_AWAY):
                answer = _ask(port, "GET-MASTER-ADDR-BY-NAME")
                found.append(int(answer[1]) if answer else 0)
        return found

    def know_each_other(self) -> bool:
        """Whether each Sentinel knows the replica and all other Sentinels, so that a failover can begin."""
        for port in self.ports:
            try:
                state = _ask(port, "MASTER")
            except REDIS_AWAY:
                return False
            facts = state if isinstance(state, dict) else dict(zip(state[::2], state[1::2], strict=True))
            words = {_text(name): _text(value) for name, value in facts.items()}
            if words.get("num-slaves") != "1" or words.get("num-other-sentinels") != str(_SENTINELS - 1):
                return False
        return True


class FailoverCluster(Cluster):
    """A cluster with a second server, which replicates the first one, and Sentinels that name the master to the nodes.

    `redis` is the present master, once `refresh` has asked the Sentinels.
    """

    def __init__(self, settings: ClusterSettings | None = None) -> None:
        super().__init__(settings)
        binary, sync, options = self.settings.binary, self.settings.appendfsync, dict(self.settings.redis_options)
        self.both = (self.redis, RedisServer(binary, appendfsync=sync, **options))
        self.sentinels = Sentinels(binary, self.redis)

    @property
    def redis_url(self) -> str:
        return self.sentinels.url

    @contextlib.contextmanager
    def servers(self) -> Iterator[None]:
        first, second = self.both
        with first, second:
            with second.client() as client:
                client.replicaof("127.0.0.1", str(first.port))
            with self.sentinels:
                _wait(self.is_ready)
                yield

    def is_ready(self) -> bool:
        """Whether a failover can begin: one master, whose replica has all data, and Sentinels that agree."""
        self.refresh()
        return self.sentinels.know_each_other() and self._is_replicated()

    def refresh(self) -> None:
        """Makes `redis` the server that the Sentinels name."""
        ports = self.sentinels.master_ports()
        for server in self.both:
            if ports and set(ports) == {server.port}:
                self.redis = server

    @property
    def replica(self) -> RedisServer:
        """The server that is not the master."""
        return next(server for server in self.both if server is not self.redis)

    def _is_replicated(self) -> bool:
        try:
            with self.replica.client(retry=None, socket_timeout=1) as client:
                state = client.info("replication")
        except REDIS_AWAY:
            return False
        return bool(state["role"] == "slave" and state["master_link_status"] == "up")


class FailOver(Nemesis):
    """Has the replica promoted: the master is killed, or frozen for longer than the Sentinels wait.

    A master that thaws still takes writes until a Sentinel makes it a replica, which loses these writes. The killed
    master is started again as a replica. Writes that were acknowledged and not yet replicated are lost.
    """

    name = "failovers"
    loses = True

    def __init__(self, cluster: FailoverCluster) -> None:
        super().__init__(cluster, min_s=1.0, max_s=4.0)
        self.failover_cluster = cluster

    async def strike(self, rng: random.Random) -> None:
        cluster = self.failover_cluster
        async with cluster.redis_lock:
            with trio.CancelScope(shield=True):
                await _wait_in_thread(cluster.is_ready)
                old = cluster.redis
                self.struck()
                if rng.random() < 0.5:
                    old.send_signal(signal.SIGSTOP)
                    await _wait_in_thread(lambda: _has_moved(cluster, old))
                    await trio.sleep(self.duration_s(rng) / 4)
                    old.send_signal(signal.SIGCONT)
                else:
                    await trio.to_thread.run_sync(old.kill)
                    await _wait_in_thread(lambda: _has_moved(cluster, old))
                    await trio.to_thread.run_sync(old.start)
                await _wait_in_thread(cluster.is_ready)


def _ask(port: int, question: str) -> Any:
    options: dict[str, Any] = {"socket_timeout": 1, "retry": None}
    with redis.Redis(port=port, **options) as client:
        return client.execute_command("SENTINEL", question, SERVICE)


def _has_moved(cluster: FailoverCluster, old: RedisServer) -> bool:
    cluster.refresh()
    return cluster.redis is not old


async def _wait_in_thread(condition: Callable[[], bool]) -> None:
    await trio.to_thread.run_sync(_wait, condition)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _FAILOVER_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the Sentinels did not come to rest")
        time.sleep(0.05)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
