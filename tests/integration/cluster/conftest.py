"""Redis servers of each kind, and nodes as real processes."""

import contextlib
from collections.abc import Iterator

import pytest

from llmactors.redislink.binary import server_binaries
from llmactors.testing.node import NodeProcess
from llmactors.testing.redis_server import RedisServer, redis_server

BINARIES = server_binaries()


@pytest.fixture(params=sorted(BINARIES))
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with redis_server(BINARIES[request.param]) as running:
        yield running


@pytest.fixture
def any_server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


class Cluster:
    """Starts nodes on one Redis server, and ends all of them."""

    def __init__(self, server: RedisServer, stack: contextlib.ExitStack) -> None:
        self.server = server
        self._stack = stack

    def gateway(self, name: str, *flags: str) -> NodeProcess:
        return self._start("gateway", "--name", name, "--bind", "127.0.0.1:0", *flags)

    def worker(self, name: str, *flags: str, model: str = "mock:step_ms=20,slots=16") -> NodeProcess:
        return self._start("worker", "--name", name, "--model", model, "--metrics-bind", "127.0.0.1:0", *flags)

    def _start(self, *arguments: str) -> NodeProcess:
        process = NodeProcess(*arguments, "--redis", self.server.url)
        return self._stack.enter_context(process)


@pytest.fixture
def cluster(any_server: RedisServer) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        yield Cluster(any_server, stack)


@pytest.fixture
def moody(server: RedisServer) -> Iterator[Cluster]:
    """A cluster on each kind of server."""
    with contextlib.ExitStack() as stack:
        yield Cluster(server, stack)
