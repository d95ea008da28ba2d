"""Measures how long a task holds the event loop: no other task runs until the task waits or passes a checkpoint."""

import time

import trio


class LongestHold(trio.abc.Instrument):
    """The longest step of any task since the measurement began, in the CPU time of this thread.

    CPU time says the same on a busy machine. Use as `trio.lowlevel.add_instrument(hold)`.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.task = ""
        """The name of the task that took this step."""
        self._began = 0

    def __repr__(self) -> str:
        return f"<LongestHold {self.seconds * 1000:.1f} ms by {self.task}>"

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time_ns()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        seconds = (time.thread_time_ns() - self._began) / 1e9 if self._began else 0.0
        if seconds > self.seconds:
            self.seconds, self.task = seconds, task.name
