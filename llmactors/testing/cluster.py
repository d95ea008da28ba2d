"""A whole cluster on this machine: a real Redis, gateways and workers as real processes, a proxy before each."""

import contextlib
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs
import redis
import trio

from llmactors.config import as_variables
from llmactors.testing.managed_process import ManagedProcess, Role
from llmactors.testing.proxy import Proxy
from llmactors.testing.redis_server import RedisServer


@attrs.frozen(kw_only=True)
class ClusterSettings:
    """What to bring up."""

    gateways: int = 2
    workers: int = 2
    module: str = "llmactors"
    """What `python -m` runs: another design with the same commands can stand in."""
    python: str = sys.executable
    """Which Python runs it."""
    model: str = "mock:step_ms=20,slots=64"
    binary: str | None = None
    """The server's; None: any that this machine has."""
    appendfsync: str = "always"
    redis_options: Mapping[str, str] = attrs.field(factory=dict)
    proxied: bool = False
    """Whether each process reaches Redis through a proxy of its own."""
    settings: Mapping[str, object] = attrs.field(factory=dict)
    """Of every process: `{"retention_s": 5}` is `LLMACTORS_RETENTION_S=5`."""
    environ: Mapping[str, str] = attrs.field(factory=dict)
    gateway_arguments: Sequence[str] = ()
    worker_arguments: Sequence[str] = ()
    restart_after_s: float = 0.3
    start_s: float = 30.0
    """All processes must be ready within this."""


class Cluster:
    """An async context manager: ready when it is entered; no process and no file is left behind it.

    A process that ends is started again after a moment, unless `member.kept_up` is set to false.
    """

    def __init__(self, settings: ClusterSettings | None = None) -> None:
        self.settings = settings or ClusterSettings()
        self.redis = RedisServer(
            self.settings.binary, appendfsync=self.settings.appendfsync, **self.settings.redis_options
        )
        self.gateways: list[ManagedProcess] = []
        self.workers: list[ManagedProcess] = []
        self.proxies: list[Proxy] = []
        self.directory = Path()
        """Where the processes' stdout and stderr are, until the end."""
        self.redis_lock = trio.Lock()
        """Held by whoever stops, starts or freezes the server."""
        self._running: contextlib.AbstractAsyncContextManager[Self] | None = None

    def __repr__(self) -> str:
        return f"<Cluster {self.redis!r}, {self.members!r}>"

    @property
    def members(self) -> list[ManagedProcess]:
        """All processes but the server."""
        return [*self.gateways, *self.workers]

    @property
    def gateway_urls(self) -> list[str]:
        """Where the gateways are, also those that are down: a client cannot know."""
        return [member.url for member in self.gateways]

    def client(self) -> "redis.Redis":
        """redis-py's, past all proxies."""
        return self.redis.client()

    def tracebacks(self) -> list[str]:
        """Those in any process's stderr. A process that was killed writes none, and no other may."""
        return [text for member in self.members for text in member.tracebacks()]

    async def wait_ready(self) -> None:
        """Until each process is up."""
        for member in self.members:
            await member.wait_ready()

    async def restart_redis(self, *, down_s: float = 0.0) -> None:
        """As `kill -9` and, after `down_s`, a start with what its file has."""
        async with self.redis_lock:
            await trio.to_thread.run_sync(self.redis.kill)
            try:
                await trio.sleep(down_s)
            finally:
                # Also when the fault was cut short: the load still needs a server. A start has a limit of its own.
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
            with self.redis:
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
            bind = f"127.0.0.1:{_free_port()}"
            more = ("--bind", bind, *settings.gateway_arguments)
            self.gateways.append(await self._member(nursery, "gateway", number, more))
        for number in range(settings.workers):
            more = ("--model", settings.model, "--metrics-bind", "", *settings.worker_arguments)
            self.workers.append(await self._member(nursery, "worker", number, more))
        async with trio.open_nursery() as starting:
            for member in self.members:
                starting.start_soon(nursery.start, member.run)

    async def _member(self, nursery: trio.Nursery, role: Role, number: int, more: Sequence[str]) -> ManagedProcess:
        name = f"{role}-{number + 1}"
        redis_url = self.redis.url
        if self.settings.proxied:
            proxy = Proxy(self.redis.port, name=name)
            await nursery.start(proxy.run)
            self.proxies.append(proxy)
            redis_url = proxy.url
        return ManagedProcess(
            role,
            name,
            (role, "--redis", redis_url, "--name", name, *more),
            self.directory,
            {**as_variables(self.settings.settings), **self.settings.environ},
            self.settings.restart_after_s,
            self.settings.module,
            python=self.settings.python,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
