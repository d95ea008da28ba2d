"""The examples of the documents, run against a node with a simulated model."""

import contextlib
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import httpx
import pytest

from llmactors.redislink.binary import any_server_binary
from llmactors.testing.node import NodeProcess
from llmactors.testing.redis_server import redis_server
from tests.support.documents import DOCUMENTS, PROJECT, Block, blocks

pytestmark = pytest.mark.integration

ADDRESS = "127.0.0.1:8000"
"""Where the examples look for a node."""
BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
REDIS = "redis://127.0.0.1:6379"
"""Where the examples look for the Redis server of a cluster."""
RUNNABLE = [block for block in BLOCKS if block.mark == "run"]
ON_A_CLUSTER = [block for block in RUNNABLE if REDIS in block.text]
ON_A_NODE = [block for block in RUNNABLE if REDIS not in block.text]
WORKER = ("--name", "worker-a", "--model", "mock", "--metrics-bind", "127.0.0.1:0")
ASKED = [(server, client) for server, client in itertools.pairwise(BLOCKS) if client.mark == "ask"]


@pytest.fixture(scope="module")
def node_url() -> Iterator[str]:
    """A node that is quick, under the name of the default model."""
    with NodeProcess("--model", "smollm2-135m=mock:step_ms=1", "--bind", "127.0.0.1:0") as node:
        yield node.wait_ready()


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """The Redis server of a cluster of a gateway and a worker."""
    with redis_server() as redis, NodeProcess("worker", "--redis", redis.url, *WORKER) as worker:
        worker.wait_ready()
        with redis.client() as client:
            client.config_set("repl-diskless-sync-delay", 0)  # a backup begins at once, and not after 5 s
        with NodeProcess("gateway", "--redis", redis.url, "--bind", "127.0.0.1:0") as gateway:
            gateway.wait_ready()
            yield redis.url


@pytest.mark.parametrize("block", ON_A_NODE, ids=str)
def test_example_runs_and_prints_what_is_shown(block: Block, node_url: str, tmp_path: Path) -> None:
    check(block, run(block, tmp_path, node_url))


@pytest.mark.parametrize("block", ON_A_CLUSTER, ids=str)
def test_example_on_a_cluster_prints_what_is_shown(block: Block, redis_url: str, tmp_path: Path) -> None:
    check(block, run(attrs.evolve(block, text=block.text.replace(REDIS, redis_url)), tmp_path))


@pytest.mark.parametrize(("server", "client"), ASKED, ids=str)
def test_example_of_a_server_answers_as_shown(server: Block, client: Block, tmp_path: Path) -> None:
    program = server.text.replace(ADDRESS, "127.0.0.1:0")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            wait_ready(url)
            check(client, run(client, tmp_path, url))
        finally:
            process.kill()


def test_examples_are_found() -> None:
    documents = {"README.md", "ops/HANDBOOK.md", "llmactors/EMBEDDING.md", "llmactors/gateway/API.md"}
    assert {block.document for block in RUNNABLE} >= documents
    assert {server.mark for server, _ in ASKED} == {"serve"}


def wait_ready(url: str) -> None:
    client = httpx.Client(base_url=url, trust_env=False, timeout=5)
    with client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if client.get("/readyz").is_success:
                    return
            time.sleep(0.02)


def check(block: Block, said: str) -> None:
    if block.prints is not None:
        assert re.fullmatch(_pattern(block.prints), said.strip()), said


def run(block: Block, folder: Path, url: str = "") -> str:
    (folder / "redis-server").symlink_to(any_server_binary())  # of the version of the cluster's server
    text = block.text.replace(ADDRESS, url.removeprefix("http://"))
    command = {"sh": ["bash", "-euo", "pipefail", "-c", text], "python": [sys.executable, "-c", text]}[block.language]
    environ = {
        **os.environ,
        "LLMACTORS_URL": url,
        "PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    done = subprocess.run(
        command,
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _pattern(shown: str) -> str:
    """Of what an example prints: `…` is anything, on one line."""
    return "[^\n]*".join(map(re.escape, shown.strip().split("…")))
