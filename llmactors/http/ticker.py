"""A timer of the Linux kernel that ticks steadily.

A sleep of Trio is a cancel scope that expires: at 200 sleeps a second, the cancellations are a tenth of a busy worker's
time. A tick is a file descriptor that becomes readable. https://man7.org/linux/man-pages/man2/timerfd_create.2.html
"""

import contextlib
import ctypes
import os
import time

import trio

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


class Ticker:
    """Ticks every `interval_s` while `start` was called after the last `stop`. For one task."""

    def __init__(self) -> None:
        # The timer's flags are those of files (timerfd_create(2)).
        self._descriptor = _checked(_libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
        self.interval_s = 0.0
        """The time between two ticks; 0 while there are none."""

    def __repr__(self) -> str:
        return f"<Ticker every {self.interval_s:g} s>"

    def start(self, interval_s: float) -> None:
        """Ticks from now on: the first tick comes in `interval_s`. Does nothing where it ticks so already."""
        if interval_s != self.interval_s:
            self._set(interval_s)

    def stop(self) -> None:
        """Ticks no more."""
        if self.interval_s:
            self._set(0.0)

    async def wait(self) -> None:
        """Waits for the next tick. Ticks that came while nobody waited count as one."""
        while True:
            await trio.lowlevel.wait_readable(self._descriptor)
            with contextlib.suppress(BlockingIOError):
                os.read(self._descriptor, 8)
                return

    def close(self) -> None:
        """Frees the timer."""
        os.close(self._descriptor)

    def _set(self, interval_s: float) -> None:
        self.interval_s = interval_s
        seconds, rest_s = divmod(interval_s, 1.0)
        step = _Timespec(int(seconds), round(rest_s * 1e9))
        _checked(_libc.timerfd_settime(self._descriptor, 0, ctypes.byref(_Itimerspec(step, step)), None))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
