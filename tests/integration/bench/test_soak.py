"""A soak of a few seconds finds nothing wrong, and leaves no process behind."""

import os
import subprocess
import sys

import pytest
import trio

from bench.soak.__main__ import soak
from bench.soak.strays import guarded, kill, processes_of
from llmactors.testing.host import is_alive

pytestmark = pytest.mark.integration


async def test_short_soak_breaks_nothing() -> None:
    with guarded() as run:
        results = await soak(["one"], 6.0)
        assert processes_of(run) == []
    assert results["one"].failures == []
    assert results["one"].data["tally"]["tokens"] > 0


def test_killed_soak_leaves_no_process() -> None:
    started = "import time, subprocess, sys\nfrom bench.soak.strays import guarded\nwith guarded():\n"
    started += "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    started += "    print(child.pid, flush=True)\n    time.sleep(600)\n"
    with subprocess.Popen([sys.executable, "-c", started], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        child = int(program.stdout.readline())
        program.kill()
    for _ in range(500):
        if not is_alive(child):
            break
        trio.run(trio.sleep, 0.02)
    assert not is_alive(child)


def test_processes_of_a_run_are_killed_by_id() -> None:
    with guarded() as run:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=os.environ)
        assert kill(run) == [child.pid]
        assert child.wait(10) == -9
