"""The silence of a gateway: what counts, and what does not."""

import os
import signal
import subprocess
import sys
import time

import pytest

from llmactors.keeper.silence import LOOK_S, Silence, counted_s, state_of


@pytest.mark.parametrize(
    ("state", "used_s", "counted"),
    [
        ("S", 0.0, 1.0),  # it waits in its loop for something that never comes
        ("T", 0.0, 1.0),  # SIGSTOP
        ("t", 0.0, 0.0),  # a debugger
        ("R", 1.0, 1.0),  # it computes
        ("R", 0.1, 0.1),  # it waits for a core
        ("R", 3.0, 1.0),  # several threads compute
        ("D", 0.0, 0.0),  # it waits for the disk
    ],
)
def test_time_without_a_core_does_not_count(state: str, used_s: float, counted: float) -> None:
    assert counted_s(state, 1.0, used_s) == counted


def test_long_absence_of_the_keeper_counts_little() -> None:
    """The keeper and its gateways were stopped together, or the machine was."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            silence = Silence(100.0)
            silence.look(process.pid, 101.0)
            silence.look(process.pid, 5000.0)
            assert silence.seconds <= 2 * LOOK_S
            silence.heard()
            silence.look(process.pid, 5001.0)
            assert silence.seconds == 0.0
        finally:
            process.kill()


def test_state_of_a_process_is_read() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as process:
        try:
            end = time.monotonic() + 10.0
            while state_of(process.pid)[1] < 0.02 and time.monotonic() < end:
                time.sleep(0.005)
            assert state_of(process.pid)[1] >= 0.02
            os.kill(process.pid, signal.SIGSTOP)
            while state_of(process.pid)[0] != "T" and time.monotonic() < end:
                time.sleep(0.005)
            assert state_of(process.pid)[0] == "T"
        finally:
            process.kill()
    assert state_of(process.pid) == ("t", 0.0), "a process that is gone is no frozen one"
