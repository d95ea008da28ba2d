"""Names the task that keeps the event loop busy: a thread looks at the loop's thread while the loop is late."""

import math
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Self

_TRIO_STEP = ("trio._core._run", "unrolled_run")
"""The function of Trio that runs one step of a task."""


class BusyTaskSampler:
    """Samples the thread that enters this object, from `enter` to `exit`.

    Args:
        every_s: The time between two looks, in seconds.
        late_s: A loop that is this much later than `due` is sampled.
        clock: Seconds, from any thread.
    """

    def __init__(
        self, *, every_s: float = 0.05, late_s: float = 0.05, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.due = math.inf
        """When the loop should be through with its tasks, by `clock`. The loop's thread sets this."""
        self._every_s = every_s
        self._late_s = late_s
        self._clock = clock
        self._seen = ""
        self._loop_thread = 0
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="busy task sampler", daemon=True)

    def __repr__(self) -> str:
        return f"<BusyTaskSampler {self._seen or 'has seen no stall'}>"

    def __enter__(self) -> Self:
        self._loop_thread = threading.get_ident()
        self._sampler.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._sampler.join()

    def take(self) -> str:
        """The task that ran while the loop was late, since the last call. Empty where the loop was not late, or where
        no task ran while it was late.
        """
        seen, self._seen = self._seen, ""
        return seen

    def _sample(self) -> None:
        while not self._ended.wait(self._every_s):
            if self._clock() - self.due >= self._late_s:
                frames = sys._current_frames()  # noqa: SLF001 - the documented way to the frames of another thread
                self._seen = running_task(frames.get(self._loop_thread)) or self._seen


def running_task(frame: FrameType | None) -> str:
    """The task of Trio in whose step `frame` is, with the line that runs; empty where no task runs."""
    innermost, inner = frame, None
    while frame is not None and innermost is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) == _TRIO_STEP:
            if inner is None or inner.f_globals.get("__name__", "").startswith("trio._core."):
                return ""  # Trio itself, which waits for sockets and timers
            where = f"{innermost.f_code.co_filename}:{innermost.f_lineno}"
            return f"{_name(inner)}, in {_name(innermost)} ({where})"
        frame, inner = frame.f_back, frame
    return ""


def _name(frame: FrameType) -> str:
    return f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}"
