"""Runs a program that dies with its parent: `python parent_death.py PARENT_PID PROGRAM ARGUMENT…`. For Linux.

The kernel sends SIGKILL to the program when the *thread* of the parent that started this script ends, so the parent
must start it from its main thread. The script is started by its path and without `site`, in a few milliseconds.

A chain of processes ends as a whole: if each process starts its children by `ends_with_this_process`, the death of the
first one, even by `kill -9`, is the death of all. A stopped process ends too. The module uses the standard library
alone, so that any process of the package can start its children in this way.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def ends_with_this_process(program: Sequence[str]) -> list[str]:
    """The command that runs `program`, which the kernel kills when the calling process ends in any way."""
    return [sys.executable, "-S", "-E", __file__, str(os.getpid()), *program]


def main() -> None:
    """Asks the kernel for the signal, and becomes the program. Returns only if the parent has died already."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == parent:  # else the parent died before the call of prctl
        os.execv(program[0], program)  # noqa: S606 - the parent names the program


if __name__ == "__main__":
    main()
