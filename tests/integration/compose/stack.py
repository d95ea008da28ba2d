"""A Docker Compose project under the control of a test."""

import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import httpx
import msgspec

from llmactors.http.sse_reader import SseReader
from tests.support.streams import StreamRecord
from tests.support.waiting import soon

SERVICES = {"valkey": 1, "worker": 2, "gateway-1": 1, "gateway-2": 1, "prometheus": 1}
"""The number of containers of each service."""


def engine_answers(command: Sequence[str]) -> bool:
    """Whether a Docker command succeeds."""
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@attrs.frozen
class Stack:
    """One project. `command` is the command line that calls Docker Compose for the project."""

    command: Sequence[str]
    environ: Mapping[str, str]

    def compose(self, *arguments: str, check: bool = True) -> str:
        return self._run([*self.command, *arguments], check=check)

    def docker(self, *arguments: str, check: bool = True) -> str:
        return self._run(["docker", *arguments], check=check)

    def _run(self, command: Sequence[str], *, check: bool) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=self.environ)
        assert not check or done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).split()

    def inspect(self, container: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = msgspec.json.decode(self.docker("inspect", container))
        return found[0]

    def unhealthy(self) -> list[str]:
        """The services whose containers are not all running and healthy."""
        found = []
        for service, count in SERVICES.items():
            states = [self.inspect(container)["State"] for container in self.containers(service)]
            healthy = [state for state in states if state["Running"] and state["Health"]["Status"] == "healthy"]
            if len(healthy) != count:
                found.append(service)
        return found

    def wait_healthy(self) -> None:
        soon(lambda: not self.unhealthy(), 120, what="that all containers are healthy")

    def url(self, service: str, port: str) -> str:
        return f"http://127.0.0.1:{self.environ[port]}"

    @property
    def gateways(self) -> tuple[str, str]:
        return self.url("gateway-1", "GATEWAY_1_PORT"), self.url("gateway-2", "GATEWAY_2_PORT")

    @property
    def prometheus(self) -> str:
        return self.url("prometheus", "PROMETHEUS_PORT")


class OpenStream(threading.Thread):
    """A stream that a thread reads to its end. The constructor returns once the first tokens have come."""

    def __init__(self, url: str, prompt: str, max_tokens: int) -> None:
        super().__init__(daemon=True)
        self.url, self.prompt, self.max_tokens = url, prompt, max_tokens
        self.record = StreamRecord()
        self.failure: BaseException | None = None
        self.start()
        soon(lambda: len(self.record.texts) > 3 or not self.is_alive(), 60, what="that the stream begins")

    def run(self) -> None:
        body = {"prompt": self.prompt, "max_tokens": self.max_tokens, "stream": True}
        try:
            with httpx.stream("POST", f"{self.url}/v1/generate", json=body, timeout=60) as response:
                response.raise_for_status()
                self.record.id = response.headers["x-request-id"]
                reader = SseReader()
                for piece in response.iter_bytes():
                    for event in reader.feed(piece):
                        self.record.add(event)
        except BaseException as failure:  # noqa: BLE001 - told by `whole`, in the test's own thread
            self.failure = failure

    def whole(self, within_s: float = 60.0) -> StreamRecord:
        """Waits for the end of the stream, and returns its record. Raises the exception that ended the stream early."""
        self.join(within_s)
        assert not self.is_alive(), f"the stream has not ended: {len(self.record.texts)} tokens"
        if self.failure is not None:
            raise self.failure
        return self.record
