"""A gateway of a cluster below a keeper, as a process, and what its keeper says."""

import contextlib
import time
from collections.abc import Iterator, Mapping

import httpx

from llmactors.backends.mock.oracle import sequence_hash, token_of
from llmactors.cli.keeping import RunningKeeper, running_keepers
from llmactors.keeper.status import KeeperStatus, status_of
from llmactors.testing.node import NodeProcess
from llmactors.testing.redis_server import RedisServer

WITH_KEEPER = {
    "LLMACTORS_KEEPER": "true",
    "LLMACTORS_LOG_FORMAT": "json",
    "LLMACTORS_FROZEN_S": "3",
    "LLMACTORS_DRILLS": "true",
}
TOKENS = 80


def text_of(prompt: str, count: int = TOKENS) -> str:
    base = sequence_hash(prompt, None)
    return "".join(token_of(base, seq).text for seq in range(1, count + 1))


def keeper_at(url: str, within_s: float = 60.0) -> RunningKeeper:
    """The keeper of a gateway, once another gateway is warm."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        for keeper in running_keepers():
            if keeper.url == url and keeper.status.active and keeper.status.standby:
                return keeper
        time.sleep(0.05)
    raise AssertionError(f"no keeper with a standby at {url}: {list(running_keepers())}")


def wait_takeover(keeper: RunningKeeper, within_s: float = 60.0) -> KeeperStatus:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        found = status_of(keeper.pid)
        if found and found.active and found.takeovers > keeper.status.takeovers:
            return found
        time.sleep(0.01)
    raise AssertionError(f"no takeover: {status_of(keeper.pid)}")


@contextlib.contextmanager
def gateway_below_keeper(*flags: str, step_ms: int = 25, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """The URL of a gateway below a keeper, with a worker beside it. `environ` is that of both."""
    both = environ or {}
    with RedisServer(appendfsync="always") as redis:
        model = ("--model", f"mock:step_ms={step_ms},slots=32")
        of_gateway = ("--bind", "127.0.0.1:0", "--redis", redis.url, *flags)
        gateway = NodeProcess("gateway", *of_gateway, environ={**WITH_KEEPER, **both})
        worker = NodeProcess("worker", *model, "--metrics-bind", "", "--redis", redis.url, environ={**both})
        with gateway as node, worker:
            found = node.wait_ready()
            end = time.monotonic() + 60.0
            while httpx.get(f"{found}/readyz").status_code != 200:
                assert time.monotonic() < end
                time.sleep(0.05)
            yield found
            assert node.stop() == 0, node.errors()
