"""Faults, one small class each: it strikes once, heals what it did, and counts.

A nemesis never leaves its fault behind, also when it is cancelled; what it killed is started again by the cluster.
"""

import random
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import redis
import trio

from llmactors.testing.cluster import Cluster
from llmactors.testing.managed_process import ManagedProcess, poll_until
from llmactors.testing.proxy import Direction
from llmactors.testing.redis_server import RedisServer

REDIS_AWAY = (redis.ConnectionError, redis.TimeoutError, redis.ResponseError)
"""What an observer gets from a server that another nemesis has just struck."""
READY_S = 30.0
"""How long what was killed before may take to be there again, on a machine that has much else to do."""


class Nemesis(ABC):
    """A fault that can be done to a cluster."""

    name: ClassVar[str]
    """Plural, as in a list of counts."""

    def __init__(self, cluster: Cluster, *, min_s: float = 0.5, max_s: float = 2.0) -> None:
        self.cluster = cluster
        self.min_s = min_s
        self.max_s = max_s
        """A fault that lasts does so for between `min_s` and `max_s`."""
        self.moments: list[float] = []
        """When it struck, on the clock of `time.monotonic`."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.count} strikes>"

    @property
    def count(self) -> int:
        """How often it struck something."""
        return len(self.moments)

    @abstractmethod
    async def strike(self, rng: random.Random) -> None:
        """Once, and returns when it is healed."""

    def struck(self) -> None:
        """Counts."""
        self.moments.append(time.monotonic())

    def duration_s(self, rng: random.Random) -> float:
        """How long this one lasts."""
        return rng.uniform(self.min_s, self.max_s)


async def _pick(members: Sequence[ManagedProcess], rng: random.Random) -> ManagedProcess:
    """One that is ready, once there is one: to kill what is starting shows nothing of a takeover."""

    def ready() -> list[ManagedProcess]:
        return [member for member in members if member.ready and member.alive]

    with trio.fail_after(READY_S):
        await poll_until(lambda: bool(ready()))
    return rng.choice(ready())


class KillWorker(Nemesis):
    """`kill -9` on a worker."""

    name = "workers killed"

    async def strike(self, rng: random.Random) -> None:
        if (await _pick(self.cluster.workers, rng)).kill():
            self.struck()


class KillGateway(Nemesis):
    """`kill -9` on a gateway."""

    name = "gateways killed"

    async def strike(self, rng: random.Random) -> None:
        if (await _pick(self.cluster.gateways, rng)).kill():
            self.struck()


class KillChild(Nemesis):
    """`kill -9` on the process that a worker runs its model in, where it has one."""

    name = "model processes killed"

    async def strike(self, rng: random.Random) -> None:
        if (await _pick(self.cluster.workers, rng)).kill_child():
            self.struck()


class KillRedis(Nemesis):
    """`kill -9` on the server, and a start after a moment."""

    name = "redis killed"

    async def strike(self, rng: random.Random) -> None:
        self.struck()
        await self.cluster.restart_redis(down_s=self.duration_s(rng))


class FreezeWorker(Nemesis):
    """SIGSTOP on a worker, longer than its lease or shorter, then SIGCONT."""

    name = "workers frozen"

    async def strike(self, rng: random.Random) -> None:
        await _freeze(self, self.cluster.workers, rng)


class FreezeGateway(Nemesis):
    """SIGSTOP on a gateway, then SIGCONT."""

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
    """SIGSTOP on the server, then SIGCONT."""

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


class _Administer(Nemesis):
    """A fault that is a command to the server."""

    async def command(self, *arguments: object) -> bool:
        """Whether the server did it."""

        def execute() -> bool:
            try:
                with self.cluster.redis.client(retry=None, socket_timeout=1) as client:
                    client.execute_command(*arguments)
            except REDIS_AWAY:
                return False
            return True

        return await trio.to_thread.run_sync(execute)


class ClientKill(_Administer):
    """The server closes the connections of all clients: all of a kind."""

    name = "CLIENT KILL"

    async def strike(self, rng: random.Random) -> None:
        if await self.command("CLIENT", "KILL", "TYPE", rng.choice(["normal", "normal", "pubsub"])):
            self.struck()


class ClientPause(_Administer):
    """The server answers nobody for a while."""

    name = "CLIENT PAUSE"

    async def strike(self, rng: random.Random) -> None:
        duration_s = self.duration_s(rng)
        if await self.command("CLIENT", "PAUSE", int(duration_s * 1000), "ALL"):
            self.struck()
            await trio.sleep(duration_s)


class OutOfMemory(_Administer):
    """`maxmemory` is below what is in use: the server takes no more, for a while."""

    name = "out of memory"

    async def strike(self, rng: random.Random) -> None:
        # One at a time, and none while the server is down: a new one has its limit from the command line.
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
    """One process's connections to the server are reset."""

    name = "connections cut"

    async def strike(self, rng: random.Random) -> None:
        if rng.choice(self.cluster.proxies).cut():
            self.struck()


class ProxyLoseReplies(Nemesis):
    """One process's commands arrive and are done, and it never hears of it."""

    name = "replies lost"

    async def strike(self, rng: random.Random) -> None:
        with rng.choice(self.cluster.proxies).losing_replies():
            self.struck()
            await trio.sleep(min(0.2, self.duration_s(rng)))


class ProxyBlackHole(Nemesis):
    """Nothing passes between one process and the server, both ways or one, and nobody is told."""

    name = "black holes"

    async def strike(self, rng: random.Random) -> None:
        choices: list[tuple[Direction, ...]] = [("up", "down"), ("up",), ("down",)]
        directions = rng.choice(choices)
        with rng.choice(self.cluster.proxies).black_holed(*directions):
            self.struck()
            await trio.sleep(self.duration_s(rng))


class ProxyDelay(Nemesis):
    """What passes between one process and the server comes late."""

    name = "delays"

    async def strike(self, rng: random.Random) -> None:
        with rng.choice(self.cluster.proxies).delayed(rng.uniform(0.02, 0.3)):
            self.struck()
            await trio.sleep(self.duration_s(rng))


class ProxyRefuse(Nemesis):
    """One process cannot get a connection to the server."""

    name = "refusals"

    async def strike(self, rng: random.Random) -> None:
        with rng.choice(self.cluster.proxies).refusing():
            self.struck()
            await trio.sleep(self.duration_s(rng))


async def strike_repeatedly(
    nemeses: Sequence[Nemesis], rng: random.Random, *, every_s: float, until: trio.Event | float, overlap: bool = True
) -> None:
    """One strike of one of `nemeses` about every `every_s`, until the event is set or so many seconds have passed.

    Returns once the last one is healed. The choices follow from `rng` alone; what they hit follows from the load, too.
    `overlap`: a fault may begin while another lasts.
    """
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(until if isinstance(until, float | int) else float("inf")):
            while not (isinstance(until, trio.Event) and until.is_set()):
                await trio.sleep(every_s * rng.uniform(0.5, 1.5))
                nemesis = rng.choice(nemeses)
                # A generator of its own: how strikes interleave then changes no later choice.
                own = random.Random(rng.getrandbits(64))
                nursery.start_soon(nemesis.strike, own)
                if not overlap:
                    await poll_until(lambda: not nursery.child_tasks)


def strikes(nemeses: Sequence[Nemesis]) -> dict[str, int]:
    """Counts by name, as `checker.check` takes them."""
    return {nemesis.name: nemesis.count for nemesis in nemeses}


def moments(nemeses: Sequence[Nemesis]) -> list[float]:
    """When any of them struck, in order."""
    return sorted(moment for nemesis in nemeses for moment in nemesis.moments)
