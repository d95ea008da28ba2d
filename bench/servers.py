"""The servers that are measured: llmactors in one process, llmactors as a cluster over Redis, and the peers."""

import contextlib
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import httpx
import msgspec

from bench.peers.environments import PEERS, PROXIES, python_of
from bench.peers.proxies import LITELLM, MODEL, ROUTER, SMG, launch
from bench.processes import ROOT, START_S, Process, free_port, running, wait_until_answering
from llmactors.backends.llama.child import ChildConfig, ChildReport
from llmactors.backends.llama.settings import LlamaSettings
from llmactors.config import as_variables
from llmactors.keeper.status import status_of
from llmactors.load.processes import ProcessUsage
from llmactors.testing.redis_server import RedisServer

ALONE = "llmactors"
CLUSTER = "llmactors-redis"
EVERYSEC = "llmactors-everysec"
"""As CLUSTER, but Redis syncs its file once a second: shows what it costs to sync the file before each reply."""
LLAMA = "llama.cpp"
OURS = (ALONE, CLUSTER)
MOCKS = (*OURS, *PEERS)
"""The servers that can serve the simulated model."""
BEHIND = (*OURS, *PROXIES)
"""The servers that can serve the model of an upstream."""
NAMES = (*MOCKS, EVERYSEC, *PROXIES)
UPSTREAM_MODEL = MODEL
"""The name of the model at the upstream of `run_upstream`."""
LLAMA_KEY = "bench"
TITLES = {
    ALONE: "llmactors, one process",
    CLUSTER: "llmactors, gateway + worker over Redis",
    EVERYSEC: "llmactors over Redis with `appendfsync everysec`",
    "origin": "the original design",
    "litserve": "LitServe",
    "mosec": "mosec",
    "hypercorn": "bare Hypercorn on Trio",
    "uvicorn": "bare uvicorn",
    ROUTER: "vllm-router",
    SMG: "smg, the gateway of SGLang",
    LITELLM: "LiteLLM's proxy",
    LLAMA: "llama.cpp's own server",
}
_APPENDFSYNC = {CLUSTER: "always", EVERYSEC: "everysec"}
_PROBE = msgspec.json.encode({"model": UPSTREAM_MODEL, "prompt": "probe", "max_tokens": 1, "stream": True})
_PROBE_CHAT = msgspec.json.encode(
    {
        "model": UPSTREAM_MODEL,
        "messages": [{"role": "user", "content": "probe"}],
        "max_tokens": 1,
        "stream": True,
    }
)


@attrs.frozen
class RunningServer:
    """One server that runs: one process, or the processes of a cluster."""

    urls: tuple[str, ...]
    """The addresses of its gateways."""
    parts: Mapping[str, Callable[[], list[int]]]
    """By the name of a part, a function that returns the ids of the processes of the part at the moment."""
    key: str | None = None
    """The key that a client has to send."""

    @property
    def url(self) -> str:
        """The address of the first gateway."""
        return self.urls[0]

    def usage(self) -> dict[str, ProcessUsage]:
        """What each part has used since it was started."""
        return {name: ProcessUsage.of(pids()) for name, pids in self.parts.items()}


@contextlib.contextmanager
def run_server(
    name: str,
    model: str,
    *,
    envs: Path | None = None,
    settings: Mapping[str, object] | None = None,
    gateways: int = 1,
    workers: int = 1,
    shards: int = 1,
    root: Path = ROOT,
) -> Iterator[RunningServer]:
    """Start the server `name` with `model` on a free port, and stop it when the block ends.

    The model of a proxy is the addresses of its upstreams, with spaces between them.

    `settings` are settings of llmactors (`max_queued=64`), which the peers ignore. llmactors is imported from the
    directory `root`; the peers always run from the repository of the benchmark.

    Raises:
        RuntimeError: The server did not start within a minute, or a peer could not be installed.
    """
    if name == ALONE:
        with _alone(model, as_variables(settings or {}), root) as served:
            yield served
    elif name in _APPENDFSYNC:
        environ = as_variables(settings or {})
        with _cluster(model, environ, (gateways, workers, shards), _APPENDFSYNC[name], root) as served:
            yield served
    elif name in PROXIES:
        with _proxy(name, model.split(), envs) as served:
            yield served
    elif name == LLAMA:
        with _llama(model, settings or {}) as served:
            yield served
    else:
        with _peer(name, model, envs) as served:
            yield served


@contextlib.contextmanager
def _alone(model: str, environ: Mapping[str, str], root: Path) -> Iterator[RunningServer]:
    with _start("serve", "--model", model, "--bind", "127.0.0.1:0", environ=environ, root=root) as process:
        url = _address_of(process, "serve")
        wait_ready(url)
        yield RunningServer((url,), {"server": lambda: process.pids})


@contextlib.contextmanager
def _cluster(
    model: str, environ: Mapping[str, str], shape: tuple[int, int, int], appendfsync: str, root: Path
) -> Iterator[RunningServer]:
    gateways, workers, shards = shape
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(RedisServer(appendfsync=appendfsync)) for _ in range(shards)]
        start = functools.partial(_start, environ=environ, root=root)
        over = ("--redis", ",".join(server.url for server in servers))
        # All nodes start at the same time, and are waited for afterwards.
        worker_of = [
            stack.enter_context(start("worker", "--model", model, "--metrics-bind", "", *over, "--name", f"w{number}"))
            for number in range(workers)
        ]
        gateway_of = [
            stack.enter_context(start("gateway", "--bind", "127.0.0.1:0", *over, "--name", f"g{number}"))
            for number in range(gateways)
        ]
        for worker in worker_of:
            _address_of(worker, "worker")
        urls = tuple(_address_of(gateway, "gateway") for gateway in gateway_of)
        for url in urls:
            wait_ready(url)
        for gateway in gateway_of:
            wait_warm(gateway)
        redis_pids = [server.process.pid for server in servers if server.process is not None]
        yield RunningServer(
            urls,
            {
                "gateway": lambda: [pid for process in gateway_of for pid in process.pids],
                "worker": lambda: [pid for process in worker_of for pid in process.pids],
                "redis": lambda: redis_pids,
            },
        )


@contextlib.contextmanager
def _peer(name: str, model: str, envs: Path | None) -> Iterator[RunningServer]:
    port = free_port()
    command = [str(python_of(name, envs)), "-m", f"bench.peers.{name}.serve"]
    with running(*command, "--bind", f"127.0.0.1:{port}", "--model", model) as process:
        wait_until_answering(port, process, _PROBE)
        yield RunningServer((f"http://127.0.0.1:{port}",), {"server": lambda: process.pids})


@contextlib.contextmanager
def run_upstream(step_ms: float, *, length: int = 0) -> Iterator[RunningServer]:
    """Start an upstream of proxies, `bench.peers.upstream`, whose streams make a token every `step_ms`.

    With a `length`, its answers end by themselves after so many tokens.
    """
    port = free_port()
    command = (sys.executable, "-m", "bench.peers.upstream", "--bind", f"127.0.0.1:{port}", "--length", str(length))
    with running(*command, "--model", f"mock:step_ms={step_ms}") as process:
        wait_until_answering(port, process, _PROBE, "/v1/completions")
        yield RunningServer((f"http://127.0.0.1:{port}",), {"server": lambda: process.pids})


@contextlib.contextmanager
def _proxy(name: str, upstreams: Sequence[str], envs: Path | None) -> Iterator[RunningServer]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        how = launch(name, upstreams, port=port, metrics_port=free_port(), folder=Path(folder), envs=envs)
        with running(*how.command, environ=how.environ) as process:
            wait_until_answering(port, process, _PROBE_CHAT, "/v1/chat/completions")
            yield RunningServer((f"http://127.0.0.1:{port}",), {"server": lambda: process.pids})


@contextlib.contextmanager
def _llama(path: str, settings: Mapping[str, object]) -> Iterator[RunningServer]:
    """llama.cpp's own HTTP server, with the settings that the backend of llmactors gives to llama.cpp."""
    ours = LlamaSettings(**dict(settings))  # type: ignore[arg-type]
    config = ChildConfig(path, LLAMA_KEY, ours.slots, ours.context_tokens, ours.threads, ours.step_tokens)
    command = (sys.executable, "-m", "llmactors.backends.llama.child")
    with running(*command, stdin=msgspec.json.encode(config) + b"\n") as process:
        report = msgspec.json.decode(_line_of(process, "llama.cpp", begins="{"), type=ChildReport)
        if report.error:
            raise RuntimeError(report.error)
        yield RunningServer((report.address,), {"server": lambda: process.pids}, key=LLAMA_KEY)


def _start(
    command: str, *arguments: str, environ: Mapping[str, str], root: Path
) -> contextlib.AbstractContextManager[Process]:
    """Start one node of llmactors, which runs until the block ends."""
    module = (sys.executable, "-m", "llmactors", command)
    return running(*module, *arguments, "--log-level", "error", environ=environ, root=root)


def _address_of(node: Process, command: str) -> str:
    """The last word of the line that a node prints once it listens: its address."""
    return _line_of(node, command, begins="llmactors").split()[-1]


def _line_of(process: Process, name: str, *, begins: str) -> str:
    """Wait for a line of output that begins with `begins`, after any other lines."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        process.require_alive()
        for line in process.output().splitlines(keepends=True):
            if line.startswith(begins) and line.endswith("\n"):
                return line
        time.sleep(0.02)
    raise RuntimeError(f"{name} did not start within {START_S:g} s: {process.output()[-2000:]}")


def wait_ready(url: str) -> None:
    """Wait until the node of llmactors at `url` accepts requests."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz").is_success:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{url} did not become ready within {START_S:g} s")


def wait_warm(gateway: Process) -> None:
    """Wait until the gateway has a standby that is ready, if it has a keeper.

    The start of a standby takes a second of CPU time, which no token costs.
    """
    deadline = time.monotonic() + START_S
    while (status := status_of(gateway.popen.pid)) is not None and not status.standby:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no standby of the gateway was ready within {START_S:g} s")
        time.sleep(0.05)


def port_of(url: str) -> int:
    """The port that `url` names."""
    port = urlsplit(url).port
    assert port is not None
    return port
