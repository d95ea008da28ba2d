"""Runs a program that dies with its parent: `python parent_death.py PARENT_PID PROGRAM ARGUMENT…`. Linux.

The kernel sends SIGKILL to the program once the parent's *thread* that started it has ended, so that has to be its main
thread. Started by its path and without `site`, this takes a few milliseconds; then it becomes the program.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Never returns."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == parent:  # else it died before the kernel was told
        os.execv(program[0], program)  # noqa: S606 - the parent says what to run


if __name__ == "__main__":
    main()
