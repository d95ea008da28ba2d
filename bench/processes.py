"""The servers' processes: started in a group of their own, watched, and gone afterwards, whatever happens."""

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
"""A process that waits until we are gone, and ends a group then."""
_SETTINGS = ("LLMACTORS_", "GATEWAY_")


@contextlib.contextmanager
def running(
    *command: str, environ: Mapping[str, str] | None = None, said: bytes = b"", root: Path = ROOT
) -> Iterator["Process"]:
    """Run `command` until the block ends, in the directory `root`, whose packages the command imports.

    All processes that the command starts end with the block, and also if this process is killed. Settings of llmactors
    in the environment of this process are not passed on. `said` is written to the stdin of the command, which stays
    open until the block ends.
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
            process.stdin.write(said)
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
            with contextlib.suppress(ProcessLookupError):  # what it left behind, and itself
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def environment(root: Path) -> dict[str, str]:
    """Environment variables for a process that imports the packages in `root`, without settings of llmactors."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
    return {**clean, "PYTHONPATH": str(root)}


@attrs.frozen(eq=False)
class Process:
    """A server's first process."""

    popen: "subprocess.Popen[bytes]"
    _output: IO[bytes]

    @property
    def pids(self) -> list[int]:
        """Its own and those of all its descendants."""
        first = psutil.Process(self.popen.pid)
        return [first.pid, *(child.pid for child in first.children(recursive=True))]

    def said(self) -> str:
        """What it has written so far, on stdout and on stderr."""
        output = self._output.fileno()
        # Not by `seek`: the position in the file is the process's too, and its next words would go there.
        return os.pread(output, os.fstat(output).st_size, 0).decode("utf-8", "replace")

    def require_alive(self) -> None:
        """Raises `RuntimeError`, with its last words, once it has ended."""
        if self.popen.poll() is not None:
            raise RuntimeError(f"{self.popen.args!r} ended with {self.popen.returncode}: {self.said()[-2000:]}")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_it_answers(port: int, process: Process, body: bytes, path: str = "/v1/generate") -> None:
    """Until a request is answered with 200. Raises `RuntimeError` if the process ends, or after a minute."""
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
    raise RuntimeError(f"{process.popen.args!r} did not answer within {START_S:g} s: {process.said()[-2000:]}")
