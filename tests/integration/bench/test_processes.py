"""No server process outlives the benchmark, however the benchmark ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.processes import running
from llmactors.load.processes import ProcessUsage

pytestmark = pytest.mark.integration

PARENT = """
import subprocess, sys, time
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", stubborn])
print("child", child.pid, flush=True)
time.sleep(60)
"""
RUNNER = """
import sys, time
from bench.processes import running
with running(sys.executable, "-c", sys.argv[1]) as process:
    while "child" not in process.output():
        time.sleep(0.01)
    print(*process.pids, flush=True)
    time.sleep(60)
"""


def wait_gone(pid: int) -> None:
    for _ in range(500):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} still runs")


def test_children_of_a_server_end_with_the_server() -> None:
    with running(sys.executable, "-c", PARENT) as process:
        while "child" not in process.output():
            process.require_alive()
            time.sleep(0.01)
        pids = process.pids
        assert len(pids) == 2
        assert ProcessUsage.of(pids).cpu_s > 0
        assert ProcessUsage.of(pids).resident_bytes > 1_000_000
    for pid in pids:
        wait_gone(pid)


def test_error_in_the_block_ends_the_server() -> None:
    with pytest.raises(KeyboardInterrupt), running(sys.executable, "-c", PARENT) as process:
        raise KeyboardInterrupt
    assert process.popen.poll() is not None


def test_servers_die_with_a_benchmark_that_is_killed() -> None:
    root = Path(__file__).parents[3]
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, PARENT], stdout=subprocess.PIPE, cwd=root, text=True)
    assert runner.stdout is not None
    pids = [int(pid) for pid in runner.stdout.readline().split()]
    assert len(pids) == 2
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    runner.stdout.close()
    for pid in pids:
        wait_gone(pid)


def test_error_shows_the_last_output_of_a_dead_server() -> None:
    with running(sys.executable, "-c", "raise SystemExit('no such model')") as process:
        process.popen.wait()
        with pytest.raises(RuntimeError, match="no such model"):
            process.require_alive()


def test_reading_the_output_does_not_change_the_output() -> None:
    count = 20_000
    with running(sys.executable, "-u", "-c", f"for number in range({count}): print(number)") as process:
        while process.popen.poll() is None:
            process.output()
        assert process.output() == "".join(f"{number}\n" for number in range(count))
