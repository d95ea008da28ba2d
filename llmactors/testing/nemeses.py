"""Faults for a cluster, one small class each. Each call of `strike` causes the fault once and ends it again.

The fault also ends when `strike` is cancelled. A process that a nemesis killed is restarted by the cluster.
"""

import contextlib
import random
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import redis
import trio

from llmactors.testing.cluster import Cluster
from llmactors.testing.managed_process import ManagedProcess, poll_until
from llmactors.testing.proxy import Direction
from llmactors.testing.redis_server import RedisServer

REDIS_AWAY = (redis.ConnectionError, redis.TimeoutError, redis.ResponseError)
"""What redis-py raises while another nemesis has the server down."""
READY_S = 30.0
"""How long a killed process may take to be ready again on a busy machine."""


class Nemesis(ABC):
    """A fault of a cluster."""

    name: str
    """The name of the fault in a list of counts: a plural."""

    def __init__(self, cluster: Cluster, *, min_s: float = 0.5, max_s: float = 2.0) -> None:
        self.cluster = cluster
        self.min_s = min_s
        self.max_s = max_s
        """A fault that lasts takes between `min_s` and `max_s`."""
        self.moments: list[float] = []
        """When the fault struck, as readings of `time.monotonic`."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.count} strikes>"

    @property
    def count(self) -> int:
        """How often the fault struck."""
        return len(self.moments)

    @abstractmethod
    async def strike(self, rng: random.Random) -> None:
        """Causes the fault once, and returns when the fault is over. `rng` makes all choices."""

    def struck(self) -> None:
        """Notes that the fault strikes now."""
        self.moments.append(time.monotonic())

    def duration_s(self, rng: random.Random) -> float:
        """Draws how long the fault lasts this time."""
        return rng.uniform(self.min_s, self.max_s)


async def _pick(members: Sequence[ManagedProcess], rng: random.Random) -> ManagedProcess:
    """Waits for a ready process and returns one. A process that is still starting has no requests to take over."""

    def ready() -> list[ManagedProcess]:
        return [member for member in members if member.ready and member.alive]

    with trio.fail_after(READY_S):
        await poll_until(lambda: bool(ready()))
    return rng.choice(ready())


class KillWorker(Nemesis):
    """Kills a worker as `kill -9` does."""

    name = "workers killed"

    async def strike(self, rng: random.Random) -> None:
        if (await _pick(self.cluster.workers, rng)).kill():
            self.struck()


class KillGateway(Nemesis):
    """Kills a gateway as `kill -9` does."""

    name = "gateways killed"

    async def strike(self, rng: random.Random) -> None:
        if (await _pick(self.cluster.gateways, rng)).kill():
            self.struck()


class KillRedis(Nemesis):
    """Kills the Redis server as `kill -9` does, and starts the server again after a moment."""

    name = "redis killed"

    async def strike(self, rng: random.Random) -> None:
        self.struck()
        await self.cluster.restart_redis(down_s=self.duration_s(rng))


class FreezeWorker(Nemesis):
    """Freezes a worker with SIGSTOP, for longer or shorter than its lease, and thaws the worker."""

    name = "workers frozen"

    async def strike(self, rng: random.Random) -> None:
        await _freeze(self, self.cluster.workers, rng)


class FreezeGateway(Nemesis):
    """Freezes a gateway with SIGSTOP, and thaws the gateway."""

    name = "gateways frozen"

    async def strike(self, rng: random.Random) -> None:
        await _freeze(self, self.cluster.gateways, rng)


async def _freeze(nemesis: Nemesis, members: Sequence[ManagedProcess], rng: random.Random) -> None:
    member = await _pick(members, rng)
    duration_s = nemesis.duration_s(rng)
    with member.stopped() as was_there:
        if was_there:
            nemesis.struck()
            await trio.sleep(duration_s)


class FreezeRedis(Nemesis):
    """Freezes the Redis server with SIGSTOP, and thaws the server."""

    name = "redis frozen"

    async def strike(self, rng: random.Random) -> None:
        async with self.cluster.redis_lock:
            self.struck()
            await _freeze_server(self.cluster.redis, self.duration_s(rng))


async def _freeze_server(server: RedisServer, seconds: float) -> None:
    server.send_signal(signal.SIGSTOP)
    try:
        await trio.sleep(seconds)
    finally:
        server.send_signal(signal.SIGCONT)


class FreezeParts(Nemesis):
    """Freezes some parts of the cluster at once, or all of them, and thaws them in any order.

    `part` names what is frozen: a part of a random choice, several, or everything with the Redis server.
    """

    def __init__(
        self,
        cluster: Cluster,
        part: Literal["one", "several", "everything"],
        *,
        min_s: float = 0.5,
        max_s: float = 2.0,
    ) -> None:
        super().__init__(cluster, min_s=min_s, max_s=max_s)
        self._part = part
        self.name = {"one": "pauses of one part", "several": "pauses of several", "everything": "pauses of all"}[part]

    async def strike(self, rng: random.Random) -> None:
        parts: list[ManagedProcess | RedisServer] = [*self.cluster.members, self.cluster.redis]
        rng.shuffle(parts)
        count = {"one": 1, "several": rng.randint(2, len(parts) - 1), "everything": len(parts)}[self._part]
        async with self.cluster.redis_lock:
            self.struck()
            with contextlib.ExitStack() as thawing:
                for part in parts[:count]:
                    if isinstance(part, RedisServer):
                        part.send_signal(signal.SIGSTOP)
                        thawing.callback(part.send_signal, signal.SIGCONT)
                    else:
                        thawing.enter_context(part.stopped())
                await trio.sleep(self.duration_s(rng))


class _Administer(Nemesis):
    """A fault that is a command to the Redis server."""

    async def command(self, *arguments: object) -> bool:
        """Sends a command; returns whether the server executed the command."""

        def execute() -> bool:
            try:
                with self.cluster.redis.client(retry=None, socket_timeout=1) as client:
                    client.execute_command(*arguments)
            except REDIS_AWAY:
                return False
            return True

        return await trio.to_thread.run_sync(execute)


class ClientKill(_Administer):
    """Has the Redis server close the connections of all ordinary clients, or of all subscribers."""

    name = "CLIENT KILL"

    async def strike(self, rng: random.Random) -> None:
        if await self.command("CLIENT", "KILL", "TYPE", rng.choice(["normal", "normal", "pubsub"])):
            self.struck()


class ClientPause(_Administer):
    """Has the Redis server answer no client for a while."""

    name = "CLIENT PAUSE"

    async def strike(self, rng: random.Random) -> None:
        duration_s = self.duration_s(rng)
        if await self.command("CLIENT", "PAUSE", int(duration_s * 1000), "ALL"):
            self.struck()
            await trio.sleep(duration_s)


class FillMemory(_Administer):
    """Sets `maxmemory` below the memory in use, so that the Redis server refuses writes for a while."""

    name = "out of memory"

    async def strike(self, rng: random.Random) -> None:
        # The lock keeps the server up meanwhile: a restarted server would have the limit of its command line again.
        async with self.cluster.redis_lock:
            if not await self.command("CONFIG", "SET", "maxmemory", "1"):
                return
            self.struck()
            try:
                await trio.sleep(self.duration_s(rng))
            finally:
                with trio.move_on_after(10, shield=True):
                    while not await self.command("CONFIG", "SET", "maxmemory", "0"):  # noqa: ASYNC110 - another process's state
                        await trio.sleep(0.1)


class ProxyCut(Nemesis):
    """Resets the connections between one process and the Redis server."""

    name = "connections cut"

    async def strike(self, rng: random.Random) -> None:
        if rng.choice(self.cluster.proxies).cut():
            self.struck()


class ProxyLoseReplies(Nemesis):
    """Loses the replies of the Redis server to one process, although the commands are executed."""

    name = "replies lost"

    async def strike(self, rng: random.Random) -> None:
        with rng.choice(self.cluster.proxies).losing_replies():
            self.struck()
            await trio.sleep(min(0.2, self.duration_s(rng)))


class ProxyBlackHole(Nemesis):
    """Lets nothing pass between one process and the Redis server, in one or both directions, without an error."""

    name = "black holes"

    async def strike(self, rng: random.Random) -> None:
        choices: list[tuple[Direction, ...]] = [("up", "down"), ("up",), ("down",)]
        directions = rng.choice(choices)
        with rng.choice(self.cluster.proxies).black_holed(*directions):
            self.struck()
            await trio.sleep(self.duration_s(rng))


class ProxyDelay(Nemesis):
    """Delays everything that passes between one process and the Redis server."""

    name = "delays"

    async def strike(self, rng: random.Random) -> None:
        with rng.choice(self.cluster.proxies).delayed(rng.uniform(0.02, 0.3)):
            self.struck()
            await trio.sleep(self.duration_s(rng))


class ProxyRefuse(Nemesis):
    """Refuses connections of one process to the Redis server."""

    name = "refusals"

    async def strike(self, rng: random.Random) -> None:
        with rng.choice(self.cluster.proxies).refusing():
            self.struck()
            await trio.sleep(self.duration_s(rng))


async def strike_repeatedly(
    nemeses: Sequence[Nemesis], rng: random.Random, *, every_s: float, until: trio.Event | float, overlap: bool = True
) -> None:
    """Strikes with a random nemesis about every `every_s`, and returns when the last fault is over.

    Args:
        nemeses: The faults to choose from.
        rng: Makes all choices, so that they can be repeated. Which process is hit also depends on the load.
        every_s: The mean time from one strike to the next.
        until: An event that ends the strikes when it is set, or the number of seconds after which they end.
        overlap: Whether a fault may begin while another one lasts.
    """
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(until if isinstance(until, float | int) else float("inf")):
            while not (isinstance(until, trio.Event) and until.is_set()):
                await trio.sleep(every_s * rng.uniform(0.5, 1.5))
                nemesis = rng.choice(nemeses)
                # Each strike has its own generator, so that the order in which strikes run changes no later choice.
                own = random.Random(rng.getrandbits(64))
                nursery.start_soon(nemesis.strike, own)
                if not overlap:
                    await poll_until(lambda: not nursery.child_tasks)


def strikes(nemeses: Sequence[Nemesis]) -> dict[str, int]:
    """How often each fault struck, by its name, as an argument of `checker.check`."""
    return {nemesis.name: nemesis.count for nemesis in nemeses}


def moments(nemeses: Sequence[Nemesis]) -> list[float]:
    """When any of the faults struck, in order, as an argument of `checker.check`."""
    return sorted(moment for nemesis in nemeses for moment in nemesis.moments)
