"""End the processes of a run whatever happens to the run, by their ids."""

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator

import psutil

_VARIABLE = "SOAK_RUN"
"""The environment variable by which all processes of a run are known. The processes inherit the variable."""
_GUARD = """
import os, sys
sys.stdin.read()
from bench.soak.strays import kill
kill(sys.argv[1])
"""


def processes_of(run: str) -> list[psutil.Process]:
    """The processes of a run that live now, except this one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(_VARIABLE) == run:
                found.append(process)
    return found


def kill(run: str) -> list[int]:
    """Kill all processes of a run; return their ids."""
    strays = processes_of(run)
    for process in strays:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return [process.pid for process in strays]


@contextlib.contextmanager
def guarded() -> Iterator[str]:
    """Until the block ends, let another process kill what this process has started, if this process is killed.

    The block gets the name of the run.
    """
    run = secrets.token_hex(8)
    environ = {name: value for name, value in os.environ.items() if name != _VARIABLE}
    guard = subprocess.Popen(
        [sys.executable, "-c", _GUARD, run], stdin=subprocess.PIPE, env=environ, start_new_session=True
    )
    os.environ[_VARIABLE] = run
    try:
        yield run
    finally:
        del os.environ[_VARIABLE]
        guard.kill()
        guard.communicate()
