"""Who is measured: llmactors in one process, llmactors as a cluster over Redis, and the peers. All start alike."""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import httpx
import msgspec

from bench.peers.environments import PEERS, python_of
from bench.processes import ROOT, START_S, Process, free_port, running, wait_until_it_answers
from llmactors.backends.llama.backend import LlamaSettings
from llmactors.backends.llama.child import ChildConfig, ChildReport
from llmactors.load.processes import ProcessUsage
from llmactors.testing.redis_server import RedisServer

ALONE = "llmactors"
CLUSTER = "llmactors-redis"
EVERYSEC = "llmactors-everysec"
"""For what it costs that CLUSTER's file is synced before each answer."""
LLAMA = "llama.cpp"
OURS = (ALONE, CLUSTER)
MOCKS = (*OURS, *PEERS)
"""Those that serve the simulated model."""
NAMES = (*MOCKS, EVERYSEC)
LLAMA_KEY = "bench"
TITLES = {
    ALONE: "llmactors, one process",
    CLUSTER: "llmactors, gateway + worker over Redis",
    EVERYSEC: "the same, its file synced once a second",
    "origin": "the origin's design",
    "litserve": "LitServe",
    "mosec": "mosec",
    "hypercorn": "bare Hypercorn on Trio",
    "uvicorn": "bare uvicorn",
    LLAMA: "llama.cpp's own server",
}
_APPENDFSYNC = {CLUSTER: "always", EVERYSEC: "everysec"}
_PROBE = msgspec.json.encode({"prompt": "probe", "max_tokens": 1, "stream": True})


@attrs.frozen
class Serving:
    """Servers that are up."""

    urls: tuple[str, ...]
    parts: Mapping[str, Callable[[], list[int]]]
    """The processes of each part, by name, as they are now."""
    key: str | None = None
    """What a client has to show."""

    @property
    def url(self) -> str:
        return self.urls[0]

    def usage(self) -> dict[str, ProcessUsage]:
        """Of each part so far."""
        return {name: ProcessUsage.of(pids()) for name, pids in self.parts.items()}


@contextlib.contextmanager
def serving(
    name: str,
    model: str,
    *,
    envs: Path | None = None,
    settings: Mapping[str, object] | None = None,
    gateways: int = 1,
    workers: int = 1,
    root: Path = ROOT,
) -> Iterator[Serving]:
    """A fresh contestant that serves `model` on a port of its own, until the block ends.

    `settings` are those of llmactors (`max_queued=64`); the peers ignore them. `root` is the directory from which
    llmactors is imported; the peers are always run from this directory tree.
    """
    environ = {f"LLMACTORS_{key.upper()}": str(value) for key, value in (settings or {}).items()}
    if name == ALONE:
        with _alone(model, environ, root) as served:
            yield served
    elif name in _APPENDFSYNC:
        with _cluster(model, environ, gateways, workers, _APPENDFSYNC[name], root) as served:
            yield served
    elif name == LLAMA:
        with _llama(model, settings or {}) as served:
            yield served
    else:
        with _peer(name, model, envs) as served:
            yield served


@contextlib.contextmanager
def _alone(model: str, environ: Mapping[str, str], root: Path) -> Iterator[Serving]:
    with _node("serve", "--model", model, "--bind", "127.0.0.1:0", environ=environ, root=root) as (process, url):
        wait_ready(url)
        yield Serving((url,), {"server": lambda: process.pids})


@contextlib.contextmanager
def _cluster(
    model: str, environ: Mapping[str, str], gateways: int, workers: int, appendfsync: str, root: Path
) -> Iterator[Serving]:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer(appendfsync=appendfsync))
        node = functools.partial(_node, environ=environ, root=root)
        over = ("--redis", redis.url)
        worker_of = [
            stack.enter_context(node("worker", "--model", model, "--metrics-bind", "", *over, "--name", f"w{number}"))
            for number in range(workers)
        ]
        gateway_of = [
            stack.enter_context(node("gateway", "--bind", "127.0.0.1:0", *over, "--name", f"g{number}"))
            for number in range(gateways)
        ]
        urls = tuple(url for _, url in gateway_of)
        for url in urls:
            wait_ready(url)
        assert redis.process is not None
        redis_pid = redis.process.pid
        yield Serving(
            urls,
            {
                "gateway": lambda: [pid for process, _ in gateway_of for pid in process.pids],
                "worker": lambda: [pid for process, _ in worker_of for pid in process.pids],
                "redis": lambda: [redis_pid],
            },
        )


@contextlib.contextmanager
def _peer(name: str, model: str, envs: Path | None) -> Iterator[Serving]:
    port = free_port()
    command = [str(python_of(name, envs)), "-m", f"bench.peers.{name}.serve"]
    with running(*command, "--bind", f"127.0.0.1:{port}", "--model", model) as process:
        wait_until_it_answers(port, process, _PROBE)
        yield Serving((f"http://127.0.0.1:{port}",), {"server": lambda: process.pids})


@contextlib.contextmanager
def _llama(path: str, settings: Mapping[str, object]) -> Iterator[Serving]:
    """llama.cpp's own HTTP server, with the settings that our backend gives it."""
    ours = LlamaSettings(**dict(settings))  # type: ignore[arg-type]
    config = ChildConfig(path, LLAMA_KEY, ours.slots, ours.context_tokens, ours.threads, ours.step_tokens)
    command = (sys.executable, "-m", "llmactors.backends.llama.child")
    with running(*command, said=msgspec.json.encode(config) + b"\n") as process:
        report = msgspec.json.decode(_first_line(process, "llama.cpp", begins="{"), type=ChildReport)
        if report.error:
            raise RuntimeError(report.error)
        yield Serving((report.address,), {"server": lambda: process.pids}, key=LLAMA_KEY)


@contextlib.contextmanager
def _node(command: str, *arguments: str, environ: Mapping[str, str], root: Path) -> Iterator[tuple[Process, str]]:
    """One process of llmactors, and the last word of the line that the process prints once it is ready: its address."""
    module = (sys.executable, "-m", "llmactors", command)
    with running(*module, *arguments, "--log-level", "error", environ=environ, root=root) as node:
        yield node, _first_line(node, command, begins="llmactors").split()[-1]


def _first_line(process: Process, name: str, *, begins: str) -> str:
    """What it says once it is ready, whatever it says before."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        process.require_alive()
        for line in process.said().splitlines(keepends=True):
            if line.startswith(begins) and line.endswith("\n"):
                return line
        time.sleep(0.02)
    raise RuntimeError(f"{name} did not start within {START_S:g} s: {process.said()[-2000:]}")


def wait_ready(url: str) -> None:
    """Until one of our own nodes takes requests."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz").is_success:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{url} did not become ready within {START_S:g} s")


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port
