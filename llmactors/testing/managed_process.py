"""One process of a cluster: restarted whenever it ends, as an orchestrator does, and never left behind."""

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, Self

import attrs
import trio

from llmactors.testing.tracebacks import tracebacks_in

Role = Literal["gateway", "worker"]

_POLL_S = 0.02


async def poll_until(condition: Callable[[], bool], *, every_s: float = _POLL_S) -> None:
    """Waits until `condition` holds, without a time limit. Use an event instead where there is one."""
    while not condition():  # noqa: ASYNC110 - as said
        await trio.sleep(every_s)


@attrs.define(eq=False)
class ManagedProcess:
    """The process of `python -m llmactors …` and its successors. `await nursery.start(process.run)` waits until ready.

    Each start writes stdout and stderr to new files in `directory`.
    """

    role: Role
    name: str
    arguments: tuple[str, ...]
    directory: Path
    environ: Mapping[str, str] = attrs.field(factory=dict)
    restart_after_s: float = 0.3
    module: str = "llmactors"
    python: str = sys.executable
    kept_up: bool = True
    """False: after its end the process is not restarted until `kept_up` is true again."""
    url: str = ""
    """The URL in the newest ready line; empty if that line has none."""
    starts: int = 0
    exits: list[int] = attrs.field(factory=list)
    """The exit codes of the processes that ended; the negative number of the signal for a killed process."""
    ready: bool = False
    ready_at: float = math.nan
    """When the newest process became ready, as a reading of `time.monotonic`."""
    frozen: int = 0
    """How many `stopped` blocks hold the process now."""
    _process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = "down" if not self.alive else "frozen" if self.frozen else "ready" if self.ready else "starting"
        return f"<ManagedProcess {self.name} pid {self.pid} {state}, start {self.starts}>"

    @property
    def pid(self) -> int:
        """The pid of the newest process; 0 before the first start."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        """Whether the newest process runs, ready or not, frozen or not."""
        return self._process is not None and self._process.poll() is None

    async def run(self, *, task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs and restarts the process until cancelled; then the process is killed.

        Raises `RuntimeError` if the first start fails.
        """
        try:
            await self._start()
            if not self.ready:
                raise RuntimeError(f"{self.name} did not start: {self.stdout()}{self.stderr()}")
            task_status.started(self)
            while True:
                await poll_until(lambda: not self.alive)
                self._note_exit()
                await trio.sleep(self.restart_after_s)
                await poll_until(lambda: self.kept_up)
                await self._start()
        finally:
            self._end()

    def signal(self, number: int) -> bool:
        """Sends a signal to the newest process; returns whether that process was running."""
        if self._process is None or not self.alive:
            return False
        self._process.send_signal(number)
        return True

    def kill(self) -> bool:
        """Kills the newest process as `kill -9` does; returns whether that process was running."""
        self.ready = False
        return self.signal(signal.SIGKILL)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[bool]:
        """Freezes the process (SIGSTOP) until the block ends; yields whether the process was running."""
        process = self._process
        if process is None or not self.signal(signal.SIGSTOP):
            yield False
            return
        self.frozen += 1
        try:
            yield True
        finally:
            self.frozen -= 1
            # Sent to the frozen process itself, since a newer one may run by now. If two blocks froze the process, the
            # first that ends thaws it.
            process.send_signal(signal.SIGCONT)

    async def wait_ready(self, starts: int = 1) -> None:
        """Waits until the process of the `starts`-th start, or of a later one, is ready."""
        await poll_until(lambda: self.ready and self.alive and self.starts >= starts)

    async def wait_exit(self) -> int:
        """Waits until the process that runs now has ended; returns its exit code."""
        process = self._process
        assert process is not None  # noqa: S101 - it was started
        await poll_until(lambda: process.poll() is not None)
        return process.returncode

    def stdout(self) -> str:
        """The stdout of the newest process."""
        return _read(self._path("out"))

    def stderr(self) -> str:
        """The stderr of the newest process."""
        return _read(self._path("err"))

    def tracebacks(self) -> list[str]:
        """What the process and its successors wrote to stderr of exceptions, each behind the name of its file."""
        found = []
        for path in sorted(self.directory.glob(f"{self.name}.*.err")):
            found += [f"{path.name}: {text}" for text in tracebacks_in(_read(path))]
        return found

    def _path(self, kind: str) -> Path:
        return self.directory / f"{self.name}.{self.starts}.{kind}"

    async def _start(self) -> None:
        self.starts += 1
        with self._path("out").open("wb") as out, self._path("err").open("wb") as err:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own command; it takes a millisecond
                [self.python, "-m", self.module, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, "LLMACTORS_LOG_FORMAT": "json", **self.environ},
            )
        while self.alive and not self.ready:
            await trio.sleep(_POLL_S)
            self._read_ready_line()

    def _read_ready_line(self) -> None:
        line, end, _ = self.stdout().partition("\n")
        if end and line.startswith("llmactors"):
            self.ready, self.ready_at = True, time.monotonic()
            _, found, url = line.rpartition(" on ")
            self.url = url.strip() if found and url.startswith("http") else ""

    def _note_exit(self) -> None:
        self.ready = False
        assert self._process is not None  # noqa: S101 - it was started
        self.exits.append(self._process.returncode)

    def _end(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
        self.ready = False


def _read(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""
