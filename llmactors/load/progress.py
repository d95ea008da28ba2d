"""A progress bar in a process of its own: drawing takes milliseconds, in which no request could be sent on time.

At each tick the run writes one line of JSON to a pipe; if the pipe is full, the line is dropped.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterable
from types import TracebackType
from typing import Self

import attrs
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from llmactors.load.plan import Plan
from llmactors.load.snapshot import RunSnapshot

_END_S = 5.0


class ProgressBar:
    """Draws on stderr while the context is open, if stderr is a terminal. Call the bar with each `RunSnapshot`."""

    def __init__(self, plan: Plan, *, cores: Collection[int] = ()) -> None:
        self._goals = {"requests": plan.requests, "seconds": plan.seconds, "open": plan.rate is not None}
        self._cores = cores
        """The cores that the drawing process may use, which should not be those of the load; empty: any."""
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<ProgressBar {self._goals}>"

    @property
    def draws(self) -> bool:
        """Whether the bar is drawn."""
        return self._process is not None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            # Ctrl-C ends the run, and the bar ends with the run: its process ignores SIGINT from the start.
            previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                process = self._process = subprocess.Popen(
                    [sys.executable, "-m", "llmactors.load.progress"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                )
            finally:
                signal.signal(signal.SIGINT, previous)
            if self._cores:
                os.sched_setaffinity(process.pid, self._cores)
            assert process.stdin is not None  # noqa: S101 - a pipe was asked for
            os.set_blocking(process.stdin.fileno(), False)
            self._write(self._goals)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __call__(self, snapshot: RunSnapshot) -> None:
        """Shows a snapshot. Never waits, and never fails the run."""
        if self._process is not None:
            self._write(attrs.asdict(snapshot))

    def _write(self, line: object) -> None:
        assert self._process is not None  # noqa: S101 - the caller checks this
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        # Below PIPE_BUF a line is written whole or not at all. The run goes on if the drawing process has died.
        with contextlib.suppress(OSError):
            os.write(self._process.stdin.fileno(), msgspec.json.encode(line) + b"\n")


def draw(lines: Iterable[bytes], console: Console) -> None:
    """Draws until the lines end, then clears the bar."""
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    goals: dict[str, float | None] = {}
    with Progress(*columns, console=console, transient=True, refresh_per_second=8) as bar:
        task = bar.add_task("starting", total=1.0)
        for line in lines:
            said = msgspec.json.decode(line)
            if "requests" in said:
                goals = said
                continue
            snapshot = RunSnapshot(**said)
            bar.update(task, completed=_share(goals, snapshot), description=describe(snapshot))


def _share(goals: dict[str, float | None], snapshot: RunSnapshot) -> float:
    by_count = snapshot.ended / (goals.get("requests") or 1.0)
    seconds = goals.get("seconds")
    return min(1.0, max(by_count, snapshot.seconds / seconds if seconds else 0.0))


def describe(snapshot: RunSnapshot) -> str:
    """The snapshot in one line."""
    speed = snapshot.ended / snapshot.seconds if snapshot.seconds else 0.0
    parts = [
        f"{snapshot.ended:,} ended",
        f"{snapshot.in_flight:,} under way",
        f"{speed:,.0f}/s",
        f"p50 {snapshot.p50_s * 1e3:,.0f} ms",
        f"p99 {snapshot.p99_s * 1e3:,.0f} ms",
    ]
    if snapshot.waiting:
        parts.insert(2, f"{snapshot.waiting:,} waiting")
    if snapshot.failed:
        parts.append(f"[bold red]{snapshot.failed:,} failed[/]")
    return ", ".join(parts)


if __name__ == "__main__":
    draw(sys.stdin.buffer, Console(stderr=True, highlight=False))
