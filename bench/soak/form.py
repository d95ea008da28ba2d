"""One form of llmactors under its mixed load: the processes, the clients, the faults and the samples."""

import contextlib
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import attrs
import redis
import trio

from bench.soak import requests, rude, samples, sockets
from bench.soak.asking import Asker
from bench.soak.samples import Samples
from bench.soak.tally import Tally
from llmactors.config import as_variables
from llmactors.testing.checker import check
from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.history import History, RequestHistory
from llmactors.testing.key_observer import LEFT_AT_REST, RedisKeys
from llmactors.testing.managed_process import ManagedProcess
from llmactors.testing.returning_clients import LoadSettings, StreamLoad

ONE, REDIS = "one", "redis"
MODEL = f"mock:step_ms=25,slots=32,crash_at=3,crash_prompt={requests.CRASHING}"
SETTINGS: Mapping[str, object] = {"retention_s": 30, "response_ttl_s": 30, "tombstone_s": 120, "rate_limit": "1000/s"}
"""Ended requests are forgotten after 150 s, so that their number is steady soon."""
RETENTION_S = 30.0
FAULT_EVERY_S = 40.0
_STREAM_KIND = "native streams"
_CLIENTS: tuple[tuple[Callable[[Asker], Awaitable[None]], float], ...] = (
    (requests.chat_stream, 1.0),
    (requests.whole_answer, 2.0),
    (requests.cancelled, 1.5),
    (requests.abandoned, 1.0),
    (requests.background, 2.0),
    (sockets.socket_streams, 1.5),
    (rude.flood, 12.0),
    (rude.halves, 12.0),
    (requests.crashing, 90.0),
)
"""Each kind of client, and the mean pause between its requests."""
_NATIVE = LoadSettings(clients=4, max_tokens=24, think_s=4.0, head_s=10.0, silence_s=10.0)


@attrs.define(eq=False)
class Form:
    """One form, its load and everything that was seen of both."""

    name: str
    processes: Callable[[], list[ManagedProcess]]
    faults: Sequence[tuple[str, Callable[[], Awaitable[None]]]]
    cluster: Cluster | None = None
    tally: Tally = attrs.field(factory=Tally)
    samples: Samples = attrs.field(factory=Samples)
    keys_left: list[str] = attrs.field(factory=list)
    _rng: random.Random = attrs.field(factory=random.Random)
    _keys: RedisKeys | None = None

    def urls(self) -> list[str]:
        """The addresses of the gateways."""
        return [process.url for process in self.processes() if process.role == "gateway"]

    def tracebacks(self) -> list[str]:
        """The tracebacks that the processes wrote, but for those of the crashes that the load asks for."""
        found = [text for process in self.processes() for text in process.tracebacks()]
        return [text for text in found if "MockCrash" not in text]

    async def load(self, seconds: float) -> None:
        """Run clients and faults for `seconds`, and then until all requests have ended; sample all the time."""
        if self.cluster is not None:
            self._keys = await trio.to_thread.run_sync(lambda: RedisKeys(self._redis(), allowed=LEFT_AT_REST))
        async with trio.open_nursery() as sampling:
            sampling.start_soon(self._sample)
            stop = trio.Event()
            native = StreamLoad(self.urls, _NATIVE, seed=self._rng.getrandbits(32))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(native.run)
                nursery.start_soon(self._judge_streams, native.history, stop)
                for client, pause_s in _CLIENTS:
                    asker = Asker(self.urls, self.tally, random.Random(self._rng.getrandbits(64)))
                    nursery.start_soon(_repeat, client, asker, pause_s, stop)
                with trio.move_on_after(seconds):
                    await self._strike()
                for process in self.processes():
                    await process.wait_ready()
                native.stop()
                stop.set()
            self._judge(native.history, native.history.requests)
            sampling.cancel_scope.cancel(reason="the load has ended")

    async def rest(self) -> None:
        """Wait until ended requests are forgotten, and look for keys that are left in Redis."""
        if self._keys is not None:
            self.keys_left = await self._keys.wait_none_left(within_s=RETENTION_S + 30.0)
        values = {process.name: await self._figures(process) for process in self.processes()}
        for name, figures in values.items():
            self.samples.add(f"{name} at rest", figures)

    def _redis(self) -> "redis.Redis":
        assert self.cluster is not None
        return self.cluster.redis.client(retry=None, socket_timeout=5)

    async def _sample(self) -> None:
        while True:
            for process in self.processes():
                self.samples.add(process.name, await self._figures(process))
            if self.cluster is not None:
                self.samples.add("redis", await samples.redis_figures(self._redis))
                if (server := self.cluster.redis.process) is not None:
                    figures = samples.process_figures(server.pid)
                    self.samples.add("redis", {name: figures[name] for name in figures if name != "threads"})
            await trio.sleep(samples.EVERY_S)

    async def _figures(self, process: ManagedProcess) -> dict[str, float]:
        if not process.ready:
            return {}
        return {**samples.process_figures(process.pid), **await samples.task_figures(process.url)}

    async def _strike(self) -> None:
        for number in range(10**6):
            await trio.sleep(FAULT_EVERY_S * self._rng.uniform(0.6, 1.4))
            name, fault = self.faults[number % len(self.faults)]
            self.tally.fault(name)
            await fault()
            for process in self.processes():
                await process.wait_ready()
            self.tally.fault("")

    async def _judge_streams(self, history: History, stop: trio.Event) -> None:
        """Judge ended streams by and by, and forget them, so that this program does not grow."""
        while not stop.is_set():
            with trio.move_on_after(30):
                await stop.wait()
            ended = [request for request in history.requests if request.ends or request.gone]
            # A client may still read the log of a stream again that ended just now.
            self._judge(history, ended[: -_NATIVE.clients])

    def _judge(self, history: History, judged: list[RequestHistory]) -> None:
        self.tally.take(_STREAM_KIND, check(History(requests=list(judged))))
        chosen = set(map(id, judged))
        history.requests[:] = [request for request in history.requests if id(request) not in chosen]


async def _repeat(client: Callable[[Asker], Awaitable[None]], asker: Asker, pause_s: float, stop: trio.Event) -> None:
    while not stop.is_set():
        with trio.move_on_after(pause_s * asker.rng.uniform(0.5, 1.5)):
            await stop.wait()
        if not stop.is_set():
            await client(asker)


@contextlib.asynccontextmanager
async def one_process() -> AsyncIterator[Form]:
    """One process with the ledger in memory. Its only faults are the crashes of the model and a stop of the process."""
    directory = Path(tempfile.mkdtemp(prefix="llmactors-soak-"))
    process = ManagedProcess(
        "gateway",
        "one process",
        ("serve", "--model", MODEL, "--bind", "127.0.0.1:0"),
        directory,
        as_variables(SETTINGS),
    )
    rng = random.Random()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(process.run)
            yield Form(ONE, lambda: [process], [("process stopped", lambda: _stop_for_a_while(process, rng))])
            nursery.cancel_scope.cancel(reason="the soak has ended")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.asynccontextmanager
async def over_redis() -> AsyncIterator[Form]:
    """Two gateways and two workers over Redis. Only the second of each is killed, so the first ones can show growth."""
    settings = ClusterSettings(model=MODEL, settings=SETTINGS, worker_metrics=True, start_s=90.0)
    rng = random.Random()
    async with Cluster(settings) as cluster:
        faults = [
            ("worker killed", lambda: _kill(cluster.workers[1])),
            ("gateway killed", lambda: _kill(cluster.gateways[1])),
            ("Redis killed", lambda: cluster.restart_redis(down_s=rng.uniform(0.1, 1.0))),
            ("worker stopped", lambda: _stop_for_a_while(cluster.workers[1], rng)),
        ]
        yield Form(REDIS, lambda: cluster.members, faults, cluster)


FORMS = {ONE: one_process, REDIS: over_redis}


async def _kill(process: ManagedProcess) -> None:
    starts = process.starts
    process.kill()
    await process.wait_ready(starts + 1)


async def _stop_for_a_while(process: ManagedProcess, rng: random.Random) -> None:
    with process.stopped():
        await trio.sleep(rng.uniform(0.5, 3.0))
