"""The stack of compose.yaml, built and started once for all tests, with its own ports and its own project name.

If the images cannot be pulled, `PYTHON_IMAGE`, `VALKEY_IMAGE` and `PROMETHEUS_IMAGE` name others. If the engine's own
network reaches no package index, `BUILD_NETWORK=host` builds on the network of the host. compose.yaml reads these.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmactors.testing.host import free_port
from tests.integration.compose.stack import Stack, engine_answers

ROOT = Path(__file__).parents[3]
MODEL = "mock:step_ms=20,slots=64"
AGAIN = "run `pytest tests/integration/compose`"


def compose_command() -> list[str] | None:
    """The command of Docker Compose: `docker compose`, or the older `docker-compose`; None if there is none."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and engine_answers([*command, "version"]):
            return command
    return None


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    if not engine_answers(["docker", "info"]):
        pytest.skip(
            "docker engine does not answer: start it, or set DOCKER_HOST, then run `pytest tests/integration/compose`"
        )
    compose = compose_command()
    if compose is None:
        pytest.skip(
            "docker compose is missing: install the compose plugin, then run `pytest tests/integration/compose`"
        )
    project = f"llmactors-test-{secrets.token_hex(4)}"
    ports = {name: str(free_port()) for name in ("GATEWAY_1_PORT", "GATEWAY_2_PORT", "PROMETHEUS_PORT")}
    environ = {**os.environ, **ports, "LLMACTORS_MODEL": MODEL, "NODE_IMAGE": project, "GATEWAY_API_KEY": ""}
    environ |= {"NODE_VERSION": "1.2.3", "NODE_REVISION": "abcdef"}
    running = Stack([*compose, "-p", project, "-f", str(ROOT / "compose.yaml")], environ)
    try:
        running.compose("up", "--build", "-d")
        running.wait_healthy()
        yield running
    finally:
        running.compose("down", "-v", "--rmi", "local", check=False)
        running.docker("image", "rm", "-f", project, check=False)


@pytest.fixture(autouse=True)
def whole(stack: Stack) -> Iterator[None]:
    """Starts all containers again after each test, so that the next test finds them running."""
    yield
    stack.compose("start")
    stack.wait_healthy()
