"""A logger for events that may come a thousand at a time: it writes so many lines in a while, and counts the rest."""

import time
from collections.abc import Callable
from typing import Any, Literal

from llmactors.telemetry.logs import get_logger

Level = Literal["debug", "info", "warning", "error"]


class BoundedLog:
    """Writes at most `lines` lines in `period_s` seconds.

    The first line after such a period says how many lines were left out. A burst of events can so neither fill a disk
    nor keep the process from its work.

    Args:
        name: The logger, as in `get_logger`.
        lines: How many lines a period may have.
        period_s: The length of a period, in seconds. A period begins with its first line.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        lines: int = 100,
        period_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._lines = lines
        self._period_s = period_s
        self._clock = clock
        self._ends_at = 0.0
        self._written = 0
        self._left_out = 0

    def __repr__(self) -> str:
        return f"<BoundedLog {self._name} {self._written}/{self._lines} lines, {self._left_out} left out>"

    def write(self, level: Level, event: str, **values: Any) -> None:
        """Writes a line, unless the period has had all its lines."""
        now, log = self._clock(), get_logger(self._name)
        if now >= self._ends_at:
            if self._left_out:
                log.warning("log lines were left out, because too many came at once", lines=self._left_out)
            self._ends_at, self._written, self._left_out = now + self._period_s, 0, 0
        if self._written >= self._lines:
            self._left_out += 1
            return
        self._written += 1
        getattr(log, level)(event, **values)
