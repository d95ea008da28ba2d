"""Faults of the Redis server of a cluster: some that the server survives, and some by which it loses what it accepted.

`loses` says which: a server that loses nothing must cost no request. What a server has lost may end with an error.
Each fault holds the lock of the server, since a server that is started again has the settings of its command line.
"""

import contextlib
import random
import resource
import shutil
from collections.abc import Iterator

import redis
import trio

from llmactors.testing.nemeses import REDIS_AWAY, Nemesis
from llmactors.testing.redis_server import RedisServer

_OPERATOR = "nemesis"
_COMMANDS = ("fcall", "xadd", "hset", "zadd", "publish", "subscribe", "hello", "info", "@write", "@read")
_BUFFER_BYTES = 16_384
_DIES_S = 10.0


class RedisNemesis(Nemesis):
    """A fault of the Redis server. A subclass says in `harm` what is done to the server, and what ends that again."""

    loses = False
    """Whether the server loses writes that it has acknowledged."""

    async def strike(self, rng: random.Random) -> None:
        async with self.cluster.redis_lock:
            # Nothing may stop in the middle, since the load still needs the server afterwards.
            with trio.CancelScope(shield=True):
                await self.harm(self.cluster.redis, rng)

    async def harm(self, server: RedisServer, rng: random.Random, /) -> None:
        """Does the harm, and ends it."""
        raise NotImplementedError


class _Lasting(RedisNemesis):
    """A fault that lasts for a while, and that commands of an operator begin and end."""

    async def harm(self, server: RedisServer, rng: random.Random) -> None:
        with server.client(retry=None) as client, contextlib.suppress(*REDIS_AWAY), self.lasting(client, rng):
            self.struck()
            await trio.sleep(self.duration_s(rng))

    def lasting(self, client: "redis.Redis", rng: random.Random) -> contextlib.AbstractContextManager[None]:
        """The fault, which begins and ends with the block."""
        raise NotImplementedError


class RevokeCommand(_Lasting):
    """Takes a command, or all commands that write or read, from the user of the nodes, and gives it back."""

    name = "rights revoked"

    @contextlib.contextmanager
    def lasting(self, client: "redis.Redis", rng: random.Random) -> Iterator[None]:
        # The operator is a user of its own, and keeps its rights.
        client.acl_setuser(_OPERATOR, enabled=True, nopass=True, categories=["+@all"], keys=["*"], channels=["*"])
        client.execute_command("AUTH", _OPERATOR, "any")  # type: ignore[no-untyped-call]
        chosen = rng.choice(_COMMANDS)
        client.execute_command("ACL", "SETUSER", "default", f"-{chosen}")  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            client.execute_command("ACL", "SETUSER", "default", "+@all")  # type: ignore[no-untyped-call]


class ChangePassword(_Lasting):
    """Gives the user of the nodes another password, closes all connections, and takes the password back."""

    name = "password changed"

    @contextlib.contextmanager
    def lasting(self, client: "redis.Redis", rng: random.Random) -> Iterator[None]:
        secret = f"s{rng.getrandbits(64):x}"
        client.execute_command("ACL", "SETUSER", "default", "resetpass", f">{secret}")  # type: ignore[no-untyped-call]
        try:
            for kind in ("normal", "pubsub"):
                # Redis asks only new connections for the password.
                client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")  # type: ignore[no-untyped-call]
            yield
        finally:
            client.execute_command("ACL", "SETUSER", "default", "nopass")  # type: ignore[no-untyped-call]


class FlushFunctions(RedisNemesis):
    """Deletes the functions of the ledger, as `FUNCTION FLUSH` does."""

    name = "functions flushed"

    async def harm(self, server: RedisServer, _: random.Random) -> None:
        with server.client(retry=None) as client, contextlib.suppress(*REDIS_AWAY):
            client.execute_command("FUNCTION", "FLUSH")
            self.struck()


class FillDisk(RedisNemesis):
    """Lets the file of the server grow no further, as a full disk does; the server ends, and is started with room.

    With `appendfsync always` a server that cannot write its file ends at once, before it has answered.
    """

    name = "disks full"

    async def harm(self, server: RedisServer, rng: random.Random) -> None:
        process = server.process
        assert process is not None  # noqa: S101 - it was started
        size = max(file.stat().st_size for file in server.append_only_files())
        self.struck()
        limit = size + rng.randrange(_BUFFER_BYTES)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        with trio.move_on_after(_DIES_S):
            while process.poll() is None:  # noqa: ASYNC110 - another process's state
                await trio.sleep(0.02)
        await trio.sleep(self.duration_s(rng))
        await trio.to_thread.run_sync(server.kill)
        await trio.to_thread.run_sync(server.start)


class FlushAll(RedisNemesis):
    """Deletes all keys, as `FLUSHALL` does."""

    name = "FLUSHALL"
    loses = True

    async def harm(self, server: RedisServer, _: random.Random) -> None:
        with server.client(retry=None) as client, contextlib.suppress(*REDIS_AWAY):
            client.flushall()
            self.struck()


class LoseFiles(RedisNemesis):
    """Kills the server, deletes its files, and starts the server: it is empty, and knows no function."""

    name = "redis emptied"
    loses = True

    async def harm(self, server: RedisServer, rng: random.Random) -> None:
        self.struck()
        await trio.to_thread.run_sync(server.kill)
        for folder in {file.parent for file in server.append_only_files()}:
            shutil.rmtree(folder)
        await trio.sleep(self.duration_s(rng))
        await trio.to_thread.run_sync(server.start)


class LoseSuffix(RedisNemesis):
    """Kills the server, and starts it with the end of its file cut off, like a replica that was behind."""

    name = "redis lost a suffix"
    loses = True
    lost_bytes = 0
    """How many bytes were cut off in all."""

    async def harm(self, server: RedisServer, rng: random.Random) -> None:
        self.struck()
        await trio.to_thread.run_sync(server.kill)
        # The server appends to the last file. The others have the state that the last one began with.
        [*_, file] = sorted(server.append_only_files(), key=lambda file: file.stat().st_mtime_ns)
        size = min(rng.randrange(2_000, 200_000), file.stat().st_size)
        with file.open("r+b") as aof:
            aof.truncate(file.stat().st_size - size)
        self.lost_bytes += size
        await trio.to_thread.run_sync(server.start)
