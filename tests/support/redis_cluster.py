"""A real Redis Cluster on this machine: three masters, each with a replica."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator

import redis

from llmactors.testing.redis_server import RedisServer

NODE_TIMEOUT_MS = 1500
"""After this silence of a master its replica takes over."""


class RedisCluster:
    """Six servers. Use `redis_cluster`."""

    def __init__(self, servers: list[RedisServer]) -> None:
        self.servers = servers

    @property
    def url(self) -> str:
        """The URL for a node: two of the servers, which know the others."""
        return f"cluster://127.0.0.1:{self.servers[0].port},127.0.0.1:{self.servers[1].port}"

    def master_of(self, slot: int) -> RedisServer:
        """The server that holds a slot, as a living server says."""
        for server in self.servers:
            if not server.running:
                continue
            with contextlib.suppress(redis.RedisError), server.client(retry=None) as client:
                for begin, end, master, *_ in client.execute_command("CLUSTER SLOTS"):
                    if begin <= slot <= end:
                        return next(each for each in self.servers if each.port == master[1])
        raise RuntimeError(f"no server knows who holds slot {slot}")

    def wait_whole(self) -> None:
        """Waits until `is_whole`."""
        deadline = time.monotonic() + 30
        while not self.is_whole():
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster did not become whole in 30 s")
            time.sleep(0.05)

    def is_whole(self) -> bool:
        """Whether each running server sees all slots served, and each master has a replica with all data."""
        for server in self.servers:
            with server.client(retry=None) as client:
                facts = client.execute_command("CLUSTER INFO")
                role = client.info("replication")
            if facts.get("cluster_state") != "ok" or facts.get("cluster_known_nodes") != str(len(self.servers)):
                return False
            if role["role"] == "slave" and role["master_link_status"] != "up":
                return False
        return True


@contextlib.contextmanager
def redis_cluster(appendfsync: str = "always") -> Iterator[RedisCluster]:
    """Runs a cluster until the block ends."""
    binary = shutil.which("redis-server")
    command = shutil.which("redis-cli")
    if binary is None or command is None:
        raise RuntimeError("redis-server and redis-cli are not on PATH")
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(
                RedisServer(
                    binary,
                    appendfsync=appendfsync,
                    cluster_enabled="yes",
                    cluster_node_timeout=str(NODE_TIMEOUT_MS),
                )
            )
            for _ in range(6)
        ]
        cluster = RedisCluster(servers)
        addresses = [f"127.0.0.1:{server.port}" for server in servers]
        subprocess.run(
            [command, "--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes"],
            check=True,
            capture_output=True,
            timeout=60,
        )
        cluster.wait_whole()
        yield cluster
