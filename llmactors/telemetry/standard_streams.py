"""Standard output and standard error of a process that serves: queued, so that no reader of them can stop the process.

queue_standard_streams    puts `LineWriter`s in place of `sys.stdout` and `sys.stderr`
flush_standard_streams    waits a moment for what is queued, before the process ends
"""

import atexit
import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable
from typing import IO, TextIO, cast

from llmactors.telemetry.line_writer import LineWriter

_NAMES = {1: "stdout", 2: "stderr"}
_FLUSH_S = 1.0
_MAX_LINE_CHARACTERS = 64 * 1024

_writers: dict[int, LineWriter] = {}


def queue_standard_streams(*, wrap_stderr: Callable[[str], str], tell_dropped: Callable[[int], str]) -> None:
    """Puts queued streams in place of `sys.stdout` and `sys.stderr`. A second call changes only the functions.

    Args:
        wrap_stderr: Makes a line of the log from a line that something else than the log writes to `sys.stderr`.
        tell_dropped: Makes the line of the log that reports a number of dropped lines.
    """
    for fd, name in _NAMES.items():
        if fd not in _writers:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                getattr(sys, name).flush()
            _writers[fd] = LineWriter(fd, tell_dropped=_plain_report)
    _writers[2].tell_dropped = tell_dropped
    sys.stdout = cast("TextIO", QueuedStream(_writers[1], 1, None))
    sys.stderr = cast("TextIO", QueuedStream(_writers[2], 2, wrap_stderr))
    atexit.register(flush_standard_streams)


def flush_standard_streams(within_s: float = _FLUSH_S) -> None:
    """Waits until the queued lines are written, for at most `within_s` seconds for each stream."""
    for writer in _writers.values():
        writer.flush(within_s)


def write_log_line(line: str) -> None:
    """Writes a line of the log, which ends in a newline, to standard error. Never raises."""
    writer = _writers.get(2)
    if writer is not None:
        writer.write(line)
    else:
        with contextlib.suppress(Exception):
            sys.stderr.write(line)
            sys.stderr.flush()


def dropped_lines() -> dict[str, int]:
    """The number of dropped lines of each queued stream, by the stream's name."""
    return {_NAMES[fd]: writer.dropped for fd, writer in _writers.items()}


class QueuedStream(io.TextIOBase):
    """A text stream over a `LineWriter`. With `wrap`, whole lines are written, each as `wrap` makes it."""

    def __init__(self, writer: LineWriter, fd: int, wrap: Callable[[str], str] | None) -> None:
        self._writer = writer
        self._fd = fd
        self._wrap = wrap
        self._rest = ""
        self._lock = threading.Lock()
        self.buffer: IO[bytes] = cast("IO[bytes]", _QueuedBytes(self))

    def __repr__(self) -> str:
        return f"<QueuedStream {self._writer!r}>"

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"

    def write(self, text: str) -> int:
        if self._wrap is None:
            self._writer.write(text)
            return len(text)
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            if len(self._rest) > _MAX_LINE_CHARACTERS:
                lines.append(self._rest)
                self._rest = ""
        for line in lines:
            if line.strip():
                self._writer.write(self._wrap(line))
        return len(text)

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def writable(self) -> bool:
        return True


class _QueuedBytes(io.RawIOBase):
    """The `buffer` of a `QueuedStream`, for code that writes bytes."""

    def __init__(self, stream: QueuedStream) -> None:
        self._stream = stream

    def write(self, data: object) -> int:
        found = bytes(cast("bytes", data))
        self._stream.write(found.decode("utf-8", "backslashreplace"))
        return len(found)

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True


def _plain_report(dropped: int) -> str:
    return f"llmactors: {dropped} lines could not be written here and were dropped\n"
