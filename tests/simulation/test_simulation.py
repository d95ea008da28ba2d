"""A few seeds of the simulation in each run of the tests; `just test-simulation --seeds N` runs more."""

import re
import subprocess
import sys

from tests.simulation.faults import FORGETS, KINDS, WITH_FORGETTING, schedule_of
from tests.simulation.seeds import shrink

SEEDS = 6


def _simulate(*options: str) -> str:
    command = [sys.executable, "-m", "tests.simulation", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_cluster_keeps_its_promise_under_the_faults_of_seeds() -> None:
    shown = _simulate("--seeds", str(SEEDS), "--jobs", "1")
    assert f"{SEEDS} seeds, 0 of them failed" in shown
    assert re.search(r"[\d,]+ requests, [\d,]{4,} tokens, lost 0, repeated 0, wrong 0", shown)


def test_seed_does_the_same_twice() -> None:
    first, again = (_simulate("--seed", "3") for _ in range(2))
    traces = [re.findall(r"^trace ([0-9a-f]{64})$", text, re.MULTILINE) for text in (first, again)]
    assert traces[0] == traces[1] != []


def test_schedules_have_every_kind_of_fault_and_keep_some_apart() -> None:
    schedules = [schedule_of(seed, faults=6, within_s=6.0) for seed in range(200)]
    assert {fault.kind for schedule in schedules for fault in schedule} == set(KINDS)
    for schedule in schedules:
        kinds = {fault.kind for fault in schedule}
        assert FORGETS not in kinds or kinds <= set(WITH_FORGETTING)
        assert schedule == tuple(sorted(schedule, key=lambda fault: fault.at_s))


def test_shrinking_keeps_what_a_failure_needs() -> None:
    assert shrink(range(8), lambda places: {2, 5} <= set(places)) == [2, 5]
    assert shrink(range(3), lambda _: True) == []
