"""How much CPU time a thread got, and how long it waited for a free core, as Linux counts both."""

import contextlib
import os
import time
from types import TracebackType
from typing import Self

import attrs

_SCHEDSTAT = "/proc/thread-self/schedstat"


@attrs.frozen
class ThreadTime:
    """The times of one thread since its start, or between two moments."""

    cpu_s: float
    """How long the thread ran."""
    waited_s: float | None
    """How long the thread could run and had no core; None where the system does not tell."""

    def since(self, before: "ThreadTime") -> "ThreadTime":
        """The times between `before` and these."""
        waited_s = None if self.waited_s is None or before.waited_s is None else self.waited_s - before.waited_s
        return ThreadTime(self.cpu_s - before.cpu_s, waited_s)


class OwnThread:
    """The times of the thread that enters and reads this object.

    The file of the system stays open, since to open it takes most of the time of a look.
    """

    def __init__(self) -> None:
        self._file: int | None = None

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):
            self._file = os.open(_SCHEDSTAT, os.O_RDONLY | os.O_CLOEXEC)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def now(self) -> ThreadTime:
        """The times since the thread's start."""
        if self._file is not None:
            with contextlib.suppress(OSError, ValueError):
                ran_ns, waited_ns, _ = os.pread(self._file, 128, 0).split()
                return ThreadTime(int(ran_ns) / 1e9, int(waited_ns) / 1e9)
        return ThreadTime(time.thread_time(), None)


def explain_stall(late_s: float, spent: ThreadTime, task: str) -> str:
    """What made the event loop `late_s` seconds late, and what to do. Pure.

    Args:
        late_s: How late the event loop was.
        spent: The times of the loop's thread during the stall.
        task: The task that ran during the stall; empty where none was seen.
    """
    held = task or "a task that was not seen"
    if spent.waited_s is not None and spent.waited_s >= late_s / 2:
        share = round(100 * spent.cpu_s / (spent.cpu_s + spent.waited_s))
        return (
            f"this process got {share} % of the core that it wanted: give the process more CPU, or fewer neighbours on "
            f"its {os.cpu_count()} cores"
        )
    if spent.cpu_s >= late_s / 2:
        return f"{held} held the loop with its own computation: move the computation into a thread or another process"
    if task:
        return f"{held} waited inside of the loop, as for a disk, or the process was stopped: wait in a thread"
    return "the process was stopped, or waited for its memory: look at swapping and at who stops processes"
