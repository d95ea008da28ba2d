"""A whole cluster on this machine: a real Redis server, and gateways and workers as real processes."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import attrs
import redis
import trio

from llmactors.config import as_variables
from llmactors.testing.host import free_port
from llmactors.testing.managed_process import ManagedProcess, Role
from llmactors.testing.proxy import Proxy
from llmactors.testing.redis_server import RedisServer


@attrs.frozen(kw_only=True)
class ClusterSettings:
    """Which processes a cluster has, and how they are configured."""

    gateways: int = 2
    workers: int = 2
    module: str = "llmactors"
    """The module that `python -m` runs for each process. Another implementation of the same commands may replace it."""
    python: str = sys.executable
    """The Python interpreter of the processes."""
    model: str = "mock:step_ms=20,slots=64"
    """What each worker serves. Empty: only the models that `settings` declare."""
    binary: str | None = None
    """The program of the Redis server; None: any server that this machine has."""
    appendfsync: str = "always"
    redis_options: Mapping[str, str] = attrs.field(factory=dict)
    proxied: bool = False
    """Whether each process connects to Redis through a proxy of its own."""
    settings: Mapping[str, object] = attrs.field(factory=dict)
    """Settings of every process: `{"retention_s": 5}` becomes the variable `LLMACTORS_RETENTION_S=5`. Without
    `"keeper": True`, the process of a gateway is the gateway itself, whose death its clients see."""
    environ: Mapping[str, str] = attrs.field(factory=dict)
    """Environment variables of every process, beside those of this process."""
    gateway_arguments: Sequence[str] = ()
    worker_arguments: Sequence[str] = ()
    worker_metrics: bool = False
    """Whether each worker serves its metrics, at the `url` of its process."""
    restart_after_s: float = 0.3
    """How long after its end a process is started again."""
    start_s: float = 30.0
    """How long the start of all processes may take together."""


class Cluster:
    """A running cluster, as an async context manager.

    The block begins when all processes are ready. After the block no process and no file of the cluster is left. A
    process that ends is started again after `restart_after_s`, unless its `kept_up` is false.
    """

    member_type: ClassVar[type[ManagedProcess]] = ManagedProcess
    """What starts the processes. A subclass may start them in another way."""

    def __init__(self, settings: ClusterSettings | None = None) -> None:
        self.settings = settings or ClusterSettings()
        self.redis = RedisServer(
            self.settings.binary, appendfsync=self.settings.appendfsync, **self.settings.redis_options
        )
        self.gateways: list[ManagedProcess] = []
        self.workers: list[ManagedProcess] = []
        self.proxies: list[Proxy] = []
        self.directory = Path()
        """The folder of the processes' stdout and stderr; deleted at the end of the block."""
        self.redis_lock = trio.Lock()
        """Hold this lock while you stop, start or freeze the Redis server."""
        self._running: contextlib.AbstractAsyncContextManager[Self] | None = None

    def __repr__(self) -> str:
        return f"<Cluster {self.redis!r}, {self.members!r}>"

    @property
    def members(self) -> list[ManagedProcess]:
        """All processes except the Redis server."""
        return [*self.gateways, *self.workers]

    @property
    def gateway_urls(self) -> list[str]:
        """The URLs of all gateways, including gateways that are down: a client cannot know which these are."""
        return [member.url for member in self.gateways]

    def client(self) -> "redis.Redis":
        """A redis-py client that is connected to the Redis server directly, past all proxies."""
        return self.redis.client()

    def servers(self) -> contextlib.AbstractContextManager[object]:
        """Runs the Redis server until the block ends. A subclass may run more servers beside it."""
        return self.redis

    @property
    def redis_url(self) -> str:
        """The URL by which nodes find the Redis server, if there are no proxies."""
        return self.redis.url

    def tracebacks(self) -> list[str]:
        """The tracebacks in the stderr of any process. There should be none, whatever was killed."""
        return [text for member in self.members for text in member.tracebacks()]

    async def wait_ready(self) -> None:
        """Waits until every process is ready."""
        for member in self.members:
            await member.wait_ready()

    async def restart_redis(self, *, down_s: float = 0.0) -> None:
        """Kills the Redis server as `kill -9` does, and after `down_s` starts it with the data in its file."""
        async with self.redis_lock:
            await trio.to_thread.run_sync(self.redis.kill)
            try:
                await trio.sleep(down_s)
            finally:
                # The server is started even if this call is cancelled, since the load still needs it. The start has a
                # time limit of its own.
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self.redis.start)

    async def __aenter__(self) -> Self:
        self._running = self._run()
        return await self._running.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._running is not None  # noqa: S101 - entered before
        return await self._running.__aexit__(kind, error, traceback)

    @contextlib.asynccontextmanager
    async def _run(self) -> AsyncIterator[Self]:
        self.directory = Path(tempfile.mkdtemp(prefix="llmactors-cluster-"))
        try:
            with self.servers():
                async with trio.open_nursery() as nursery:
                    with trio.fail_after(self.settings.start_s):
                        await self._start(nursery)
                    yield self
                    nursery.cancel_scope.cancel(reason="the cluster is not needed any more")
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    async def _start(self, nursery: trio.Nursery) -> None:
        settings = self.settings
        for number in range(settings.gateways):
            bind = f"127.0.0.1:{free_port()}"
            more = ("--bind", bind, *settings.gateway_arguments)
            self.gateways.append(await self._member(nursery, "gateway", number, more))
        for number in range(settings.workers):
            metrics_bind = "127.0.0.1:0" if settings.worker_metrics else ""
            models = ("--model", settings.model) if settings.model else ()
            more = (*models, "--metrics-bind", metrics_bind, *settings.worker_arguments)
            self.workers.append(await self._member(nursery, "worker", number, more))
        async with trio.open_nursery() as starting:
            for member in self.members:
                starting.start_soon(nursery.start, member.run)

    async def _member(self, nursery: trio.Nursery, role: Role, number: int, more: Sequence[str]) -> ManagedProcess:
        name = f"{role}-{number + 1}"
        redis_url = self.redis_url
        if self.settings.proxied:
            proxy = Proxy(self.redis.port, name=name)
            await nursery.start(proxy.run)
            self.proxies.append(proxy)
            redis_url = proxy.url
        return self.member_type(
            role,
            name,
            (role, "--redis", redis_url, "--name", name, *more),
            self.directory,
            {**as_variables({"keeper": False, **self.settings.settings}), **self.settings.environ},
            self.settings.restart_after_s,
            self.settings.module,
            python=self.settings.python,
        )
