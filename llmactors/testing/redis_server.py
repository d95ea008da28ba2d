"""A real Redis or Valkey server for a test, on a free port of 127.0.0.1. The test can stop, kill and restart it."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

import redis

from llmactors.redislink.binary import any_server_binary
from llmactors.testing.host import free_port

_START_S = 60.0
_POLL_S = 0.01
# A server in cluster mode opens its port + 10,000 as well.
_HIGHEST_PORT = 55535


class RedisServer:
    """One server process. A context manager, which kills the process and deletes its data at the end.

    Args:
        binary: The program of the server; None: any server that this machine has.
        appendfsync: `always`, `everysec`, or `no` for a server that forgets everything when it is killed.
        options: More lines of the server's configuration: `requirepass="secret"`.
    """

    def __init__(self, binary: str | None = None, *, appendfsync: str = "always", **options: str) -> None:
        self._binary = binary or any_server_binary()
        self._options = {
            "appendonly": "no" if appendfsync == "no" else "yes",
            "appendfsync": "always" if appendfsync == "no" else appendfsync,
            "save": "",
            # A server reads its whole file before it answers, so the file is kept small.
            "auto-aof-rewrite-min-size": "16mb",
            "maxmemory-policy": "noeviction",
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        self.data: Path | None = None
        """The folder of the server's files; None: a new one, which is deleted at the end. Set before the start."""
        self._directory = ""
        self._log: IO[bytes] | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __repr__(self) -> str:
        return f"<RedisServer {Path(self._binary).name} on {self.port}, {'up' if self.running else 'down'}>"

    def __enter__(self) -> Self:
        self._directory = str(self.data or tempfile.mkdtemp(prefix="llmactors-redis-"))
        self._log = (Path(self._directory) / "log").open("wb")
        self.port = free_port(_HIGHEST_PORT)
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
        if self.data is None:
            shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the server process runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Starts the server, and waits until the server answers. After a `kill` it has the data in its file.

        Raises `RuntimeError`.
        """
        arguments = [self._binary, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self._directory]
        for name, value in self._options.items():
            arguments += [f"--{name}", value]
        # Python ignores SIGXFSZ. So must the server, that a write beyond its limit fails as one to a full disk does.
        self.process = subprocess.Popen(arguments, stdout=self._log, stderr=self._log, restore_signals=False)  # noqa: S603 - our own command
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
        """Kills the server as `kill -9` does, and waits for its end. Data that is not in its file is lost."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Shuts the server down in order, and waits for its end."""
        self._end(signal.SIGTERM)

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal such as SIGSTOP or SIGCONT to the server."""
        assert self.process is not None  # noqa: S101 - it was started
        os.kill(self.process.pid, number)

    def client(self, **options: object) -> "redis.Redis":
        """A redis-py client of the server, independent of the code under test. `options` are those of `redis.Redis`."""
        return redis.Redis(port=self.port, **{"socket_timeout": 5, **options})  # type: ignore[arg-type]

    def append_only_files(self) -> list[Path]:
        """The files to which the server appends what it executes."""
        return list(Path(self._directory).glob("appendonlydir/*.incr.aof"))

    def log(self) -> str:
        """The log of the server so far."""
        path = Path(self._directory) / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(number)
            self.process.wait()


@contextlib.contextmanager
def redis_server(binary: str | None = None, **options: str) -> Iterator[RedisServer]:
    """Runs a server until the block ends."""
    with RedisServer(binary, **options) as server:
        yield server
