"""Server processes. Each runs in a process group of its own, and the whole group ends with the block that starts it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import attrs
import psutil

ROOT = Path(__file__).resolve().parent.parent
START_S = 60.0
END_S = 10.0
_GUARD = "import os, sys; sys.stdin.read(); os.killpg(int(sys.argv[1]), 9)"
"""A process that waits until the benchmark is gone, even if that was killed, and then kills the group of a server."""
_SETTING_PREFIXES = ("LLMACTORS_", "GATEWAY_")


@contextlib.contextmanager
def running(
    *command: str, environ: Mapping[str, str] | None = None, stdin: bytes = b"", root: Path = ROOT
) -> Iterator["Process"]:
    """Run `command` until the block ends, in the directory `root`, whose packages the command imports.

    All processes that the command starts end with the block, and also if this process is killed. Settings of llmactors
    in the environment of this process are not passed on. The bytes `stdin` are written to the stdin of the command,
    which stays open until the block ends.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=root,
            env={**environment(root), **(environ or {})},
            start_new_session=True,
        )
        guard = [sys.executable, "-S", "-E", "-c", _GUARD, str(process.pid)]
        guardian = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)
        try:
            assert process.stdin is not None
            process.stdin.write(stdin)
            process.stdin.flush()
            yield Process(process, output)
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # type: ignore[union-attr]
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
            guardian.kill()
            guardian.communicate()
            with contextlib.suppress(ProcessLookupError):  # the processes that the command left behind
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def environment(root: Path) -> dict[str, str]:
    """Environment variables for a process that imports the packages in `root`, without settings of llmactors."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_SETTING_PREFIXES)}
    return {**clean, "PYTHONPATH": str(root)}


@attrs.frozen(eq=False)
class Process:
    """The first process of a server."""

    popen: "subprocess.Popen[bytes]"
    _output: IO[bytes]

    @property
    def pids(self) -> list[int]:
        """The ids of this process and of all its descendants that live now."""
        first = psutil.Process(self.popen.pid)
        return [first.pid, *(child.pid for child in first.children(recursive=True))]

    def output(self) -> str:
        """Everything that the process has written so far to stdout and stderr."""
        descriptor = self._output.fileno()
        # `seek` would move the position at which the process writes, since both share one open file.
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8", "replace")

    def require_alive(self) -> None:
        """Raise `RuntimeError` with the last output of the process, if the process has ended."""
        if self.popen.poll() is not None:
            raise RuntimeError(f"{self.popen.args!r} ended with {self.popen.returncode}: {self.output()[-2000:]}")


def free_port() -> int:
    """A port on which no process listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_answering(port: int, process: Process, body: bytes, path: str = "/v1/generate") -> None:
    """Wait until the server answers a POST of `body` with 200.

    Raises:
        RuntimeError: The process ended, or did not answer within a minute.
    """
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    request = f"{head}\r\nConnection: close\r\n\r\n".encode() + body
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        process.require_alive()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(request)
            if connection.recv(4096).startswith(b"HTTP/1.1 200"):
                while connection.recv(65536):
                    pass
                return
        time.sleep(0.05)
    raise RuntimeError(f"{process.popen.args!r} did not answer within {START_S:g} s: {process.output()[-2000:]}")
