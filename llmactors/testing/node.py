"""A whole node for a test: inside the test's event loop, or as a process that the test can kill."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from typing import IO, Any, Self

import attrs
import httpx
import trio

from llmactors.backends.build import ServedModel, serve_model
from llmactors.config import Settings
from llmactors.http.server import ListeningSocket
from llmactors.system.node import Node
from llmactors.testing.tracebacks import tracebacks_in


class InjectedCrash(Exception):
    """The exception that `LocalNode.crash` raises inside an actor."""


@attrs.frozen(eq=False)
class LocalNode:
    """A node in this event loop, which listens on a free port."""

    node: Node
    client: httpx.AsyncClient
    """An HTTP client of the node, over a real socket."""

    @property
    def url(self) -> str:
        """The base URL of the node."""
        return self.node.listening.url

    @property
    def port(self) -> int:
        """The port of the node on 127.0.0.1."""
        return int(self.node.listening.socket.getsockname()[1])

    def crash(self, path: str) -> None:
        """Ends the running incarnation of the actor at `path`, such as `node/http/gateway`, with an exception."""
        self.node.tree.actor(path).crash(InjectedCrash(path))

    def incarnations(self) -> dict[str, int]:
        """The newest incarnation of each actor, by path."""
        return {actor.path: actor.spec.ref.incarnation for actor in self.node.tree.actors()}

    async def wait_ready(self, *, within_s: float = 60.0) -> None:
        """Waits until all models of the node serve. Raises `trio.TooSlowError`."""
        await wait_until(lambda: not self.node.directory.problems(), within_s=within_s)

    async def wait_running(self, path: str, incarnation: int) -> None:
        """Waits until this incarnation of the actor, or a later one, runs. Raises `trio.TooSlowError`."""
        ref = self.node.tree.actor(path).spec.ref
        await wait_until(lambda: ref.running and ref.incarnation >= incarnation)


def mock_model(options: str = "", name: str = "mock") -> ServedModel:
    """The model that `--model mock:OPTIONS` serves: a simulated backend."""
    return serve_model(f"{name}=mock:{options}")


@contextlib.asynccontextmanager
async def local_node(*models: ServedModel, **settings: Any) -> AsyncIterator[LocalNode]:
    """Runs a node until the block ends. `models` are its models (default: one mock that takes no time).

    `settings` replace fields of `llmactors.config.Settings`.
    """
    chosen = attrs.evolve(Settings(bind="127.0.0.1:0", drain_s=0.2), **settings)
    node = Node(chosen, models or (mock_model(),), ListeningSocket(chosen.bind))
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    client = httpx.AsyncClient(
        base_url=node.listening.url,
        timeout=30,
        limits=limits,
        trust_env=False,
        verify=False,  # noqa: S501 - the node has no TLS, and the certificates take 20 ms to load
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        async with client:
            yield LocalNode(node, client)
        await node.shut_down()


async def wait_until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Checks `condition` every two milliseconds until it holds. Raises `trio.TooSlowError` after `within_s`."""
    with trio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event to wait on
            await trio.sleep(0.002)


class NodeProcess:
    """The process of `python -m llmactors …`. A context manager, which kills the process at the end."""

    def __init__(self, *arguments: str, environ: dict[str, str] | None = None, prefix: Sequence[str] = ()) -> None:
        """`prefix` is a command that runs the process, as `prlimit --nofile=64` does."""
        self._prefix = prefix
        self._arguments = arguments
        self._environ = {**os.environ, **(environ or {})}
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed on exit
        self.url = ""

    def __repr__(self) -> str:
        return f"<NodeProcess {' '.join(self._arguments)}>"

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            [*self._prefix, sys.executable, "-m", "llmactors", *self._arguments],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=self._environ,
            text=True,
        )
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()

    def wait_ready(self) -> str:
        """Waits for the ready line, and returns the URL in it. Raises `RuntimeError` if the process ends before."""
        assert self.process.stdout is not None  # noqa: S101 - a pipe was asked for
        line = self.process.stdout.readline()
        if " on http" not in line:
            self.process.wait()
            raise RuntimeError(f"the node did not start: {line}{self.errors()}")
        self.url = line.rpartition(" on ")[2].strip()
        return self.url

    def stop(self, number: signal.Signals = signal.SIGTERM, *, within_s: float = 30.0) -> int:
        """Sends a signal, waits for the end of the process, and returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def errors(self) -> str:
        """What the process wrote to stderr so far."""
        errors = self._errors.fileno()
        # `seek` would also move the position at which the process writes.
        return os.pread(errors, os.fstat(errors).st_size, 0).decode()

    def tracebacks(self) -> list[str]:
        """What the process wrote to stderr of exceptions so far."""
        return tracebacks_in(self.errors())
