"""A keeper with small gateways, for tests."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import llmactors.keeper
from llmactors.keeper.status import KeeperStatus, status_of
from tests.support import small_gateway

KEEPER = Path(llmactors.keeper.__file__).parent

_SUBREAPER = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Becomes the command behind it, as a process that gets the orphans below it (PR_SET_CHILD_SUBREAPER)."""

_WITH_KILLS_FILE = """
import os, runpy, sys
sys.argv = sys.argv[1:]
sys.path.append(os.path.dirname(os.path.dirname(sys.argv[0])))
import llmactors.keeper.gateway_process as gateway_process
gateway_process._KILLS_FILE = os.environ["KILLS_FILE"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Becomes a keeper that reads this file in place of `/proc/vmstat`."""


class KeeperRun:
    """Runs a keeper on a free port. `mode` says what gateways that start from here on do wrong."""

    def __init__(
        self,
        folder: Path,
        *,
        mode: str = "",
        limit: int = 4096,
        start_s: float = 10.0,
        frozen_s: float = 10.0,
        files: int | None = None,
        takes_orphans: bool = False,
        has_kills_file: bool = False,
    ) -> None:
        self._mode = folder / "mode"
        self.mode(mode)
        self.errors = folder / "errors"
        with socket.socket() as listener, self.errors.open("wb") as errors:
            listener.bind(("127.0.0.1", 0))
            self.address = listener.getsockname()
            listener.setblocking(False)
            fd = listener.fileno()
            program = [sys.executable, "-S", "-E", small_gateway.__file__, str(self._mode)]
            command = [
                sys.executable,
                "-S",
                "-E",
                *(("-c", _WITH_KILLS_FILE) if has_kills_file else ()),
                str(KEEPER),
                str(fd),
                "http://x",
                str(limit),
                *map(str, (start_s, frozen_s)),
                "text",
            ]
            shell = ["prlimit", f"--nofile={files}:{files}"] if files else []
            if takes_orphans:
                shell = [sys.executable, "-S", "-c", _SUBREAPER]
            kills = folder / "vmstat"
            kills.write_text("nr_free_pages 7\noom_kill 41\n")
            environ = {**os.environ, "KILLS_FILE": str(kills)}
            self.process = subprocess.Popen([*shell, *command, *program], pass_fds=[fd], stderr=errors, env=environ)

    def __enter__(self) -> Self:
        self.wait_for(lambda status: status.active)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()

    def mode(self, mode: str) -> None:
        self._mode.write_text(mode)

    def log(self) -> str:
        return self.errors.read_text()

    @property
    def status(self) -> KeeperStatus:
        found = status_of(self.process.pid)
        assert found is not None
        return found

    def wait_for(self, condition: Callable[[KeeperStatus], object], within_s: float = 10.0) -> KeeperStatus:
        """Waits until the keeper's status fulfils a condition."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            found = status_of(self.process.pid)
            if found is not None and condition(found):
                return found
            time.sleep(0.005)
        raise AssertionError(f"{status_of(self.process.pid)} after {within_s} s\n{self.log()}")

    def wait_for_standby(self) -> KeeperStatus:
        return self.wait_for(lambda status: status.active and status.standby)

    def kill(self) -> None:
        """Kills the active gateway, and waits for the next one."""
        before = self.status
        os.kill(before.active, signal.SIGKILL)
        self.wait_for(lambda status: status.active and status.takeovers > before.takeovers)

    @contextlib.contextmanager
    def client(self, *requests: bytes) -> Iterator[socket.socket]:
        """A connection on which the requests were sent."""
        with socket.create_connection(self.address, timeout=20.0) as connection:
            for request in requests:
                connection.sendall(request)
            yield connection


def read_all(connection: socket.socket, size: int) -> bytes:
    """Reads so many bytes, or fewer if the connection ends."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while len(found) < size and (data := connection.recv(65536)):
            found += data
    return found
