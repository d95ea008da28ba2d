"""Writes lines to a file descriptor without ever blocking the event loop, and without ever failing.

A thread writes the lines. The queue between the loop and the thread is bounded: while nobody reads a pipe, or while a
disk is full, new lines are dropped and counted.
"""

import contextlib
import errno
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

_MAX_QUEUED_BYTES = 1024 * 1024
_CHUNK_BYTES = 16 * 1024
"""The most that one system call writes. A line that is not longer is written as a whole, or lost as a whole."""
_RETRY_S = 0.2
"""The pause after a failed write. Without it a full disk would cost a system call for each line."""
_NOT_NOW = {errno.EAGAIN, errno.EWOULDBLOCK}


class LineWriter:
    """A bounded queue of lines, and the daemon thread that writes the lines to `fd`.

    Args:
        fd: Where the lines go. The caller keeps the descriptor open.
        tell_dropped: Makes the line that reports how many lines were dropped. This line is written when the
            descriptor takes data again.
        max_queued_bytes: The most bytes that wait. A line that finds no room is dropped.
    """

    def __init__(
        self, fd: int, *, tell_dropped: Callable[[int], str], max_queued_bytes: int = _MAX_QUEUED_BYTES
    ) -> None:
        self._fd = fd
        self.tell_dropped = tell_dropped
        self._max_queued_bytes = max_queued_bytes
        self._lines: deque[bytes] = deque()
        self._queued_bytes = 0
        self._is_writing = False
        self._untold = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """The number of lines that were dropped since the start."""

    def __repr__(self) -> str:
        return f"<LineWriter fd={self._fd} queued_bytes={self._queued_bytes} dropped={self.dropped}>"

    def write(self, text: str) -> None:
        """Queues `text`, one or more whole lines, or drops the text where the queue is full. Never blocks or raises."""
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._queued_bytes + len(data) > self._max_queued_bytes:
                self._drop(data)
                return
            self._lines.append(data)
            self._queued_bytes += len(data)
            if self._thread is None and not self._start_thread():
                self._drop(*self._lines)
                self._lines.clear()
                self._queued_bytes = 0
                return
            self._changed.notify_all()

    def flush(self, within_s: float) -> bool:
        """Waits until all queued lines are written or dropped, for at most `within_s` seconds. False: time is over."""
        deadline = time.monotonic() + within_s
        with self._changed:
            while self._lines or self._is_writing:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(left_s)
        return True

    def _start_thread(self) -> bool:
        """Starts the thread. Returns False where the system gives no thread now; the next line tries again."""
        thread = threading.Thread(target=self._run, name=f"writer of fd {self._fd}", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):
            return False
        self._thread = thread
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines:
                    self._changed.wait()
                taken, size = self._take()
                report = self.tell_dropped(self._untold).encode("utf-8", "backslashreplace") if self._untold else b""
                told, self._is_writing = self._untold, True
            failed = not self._put(report + b"".join(taken))
            with self._changed:
                # The bytes count as queued until they are written, so that a blocked write bounds the queue too.
                self._queued_bytes -= size
                if failed:
                    self._drop(*taken)
                else:
                    self._untold -= told
                self._is_writing = False
                self._changed.notify_all()
            if failed:
                time.sleep(_RETRY_S)

    def _take(self) -> tuple[list[bytes], int]:
        """Takes lines of about `_CHUNK_BYTES` from the queue."""
        taken, size = [self._lines.popleft()], 0
        size = len(taken[0])
        while self._lines and size + len(self._lines[0]) <= _CHUNK_BYTES:
            taken.append(self._lines.popleft())
            size += len(taken[-1])
        return taken, size

    def _put(self, data: bytes) -> bool:
        """Writes all of `data`, for as long as that takes. Returns False where the descriptor refuses the data."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except OSError as error:
                if error.errno not in _NOT_NOW:
                    return False
                # Another process that shares the pipe or the terminal may have made the descriptor non-blocking.
                with contextlib.suppress(OSError, ValueError):
                    select.select([], [self._fd], [], 1.0)
        return True

    def _drop(self, *lines: bytes) -> None:
        count = sum(max(1, line.count(b"\n")) for line in lines)
        self.dropped += count
        self._untold += count
