"""A real Redis or Valkey server of one's own, on a free port of 127.0.0.1: started, stopped, killed, started again."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

import redis

from llmactors.redislink.binary import any_server_binary

_START_S = 60.0
_POLL_S = 0.01


class RedisServer:
    """One server process. A context manager: whatever happens, process and data are gone after it.

    `appendfsync` is `always`, `everysec`, or `no` for a server that forgets all when it is killed. `options` are more
    lines of the server's configuration, as in `{"requirepass": "secret"}`.
    """

    def __init__(self, binary: str | None = None, *, appendfsync: str = "always", **options: str) -> None:
        self._binary = binary or any_server_binary()
        self._options = {
            "appendonly": "no" if appendfsync == "no" else "yes",
            "appendfsync": "always" if appendfsync == "no" else appendfsync,
            "save": "",
            # A server reads its file before it answers: a small one is read in a moment.
            "auto-aof-rewrite-min-size": "16mb",
            "maxmemory-policy": "noeviction",
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        self._directory = ""
        self._log: IO[bytes] | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __repr__(self) -> str:
        return f"<RedisServer {Path(self._binary).name} on {self.port}, {'up' if self.running else 'down'}>"

    def __enter__(self) -> Self:
        self._directory = tempfile.mkdtemp(prefix="llmactors-redis-")
        self._log = (Path(self._directory) / "log").open("wb")
        self.port = _free_port()
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process is not None:
            self.kill()
        if self._log is not None:
            self._log.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Starts it, also after a `kill`, with the data that it had; returns once it answers."""
        arguments = [self._binary, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self._directory]
        for name, value in self._options.items():
            arguments += [f"--{name}", value]
        self.process = subprocess.Popen(arguments, stdout=self._log, stderr=self._log)  # noqa: S603 - our own command
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self.running:
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError), self.client(retry=None) as client:
                try:
                    client.ping()
                except redis.BusyLoadingError:
                    pass
                except redis.AuthenticationError:
                    return
                else:
                    return
            time.sleep(_POLL_S)
        raise RuntimeError(f"the server did not start: {self.log()[-2000:]}")

    def kill(self) -> None:
        """As `kill -9`. Returns once it is gone. What was not written to its file is lost."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """An orderly end."""
        self._end(signal.SIGTERM)

    def send_signal(self, number: signal.Signals) -> None:
        """As in SIGSTOP, SIGCONT."""
        assert self.process is not None  # noqa: S101 - it was started
        os.kill(self.process.pid, number)

    def client(self, **options: object) -> "redis.Redis":
        """An independent observer: redis-py's ordinary client."""
        return redis.Redis(port=self.port, **{"socket_timeout": 5, **options})  # type: ignore[arg-type]

    def log(self) -> str:
        """What it wrote so far."""
        path = Path(self._directory) / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(number)
            self.process.wait()


@contextlib.contextmanager
def redis_server(binary: str | None = None, **options: str) -> Iterator[RedisServer]:
    """A server for one block."""
    with RedisServer(binary, **options) as server:
        yield server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
