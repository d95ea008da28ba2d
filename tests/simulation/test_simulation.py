"""A few seeds of the simulation in each run of the tests; `just test-simulation --seeds N` runs more."""

import re
import subprocess
import sys

from tests.simulation.backend import chain_answer, check_of, first_check
from tests.simulation.faults import FORGETS, KINDS
from tests.simulation.seeds import shrink
from tests.simulation.themes import THEMES, plan_of

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


def test_seeds_have_every_theme_and_every_kind_of_fault() -> None:
    plans = [plan_of(seed) for seed in range(400)]
    assert {plan.theme for plan in plans} == set(THEMES)
    assert {fault.kind for plan in plans for fault in plan.schedule} == set(KINDS)
    for plan in plans:
        kinds = {fault.kind for fault in plan.schedule}
        assert FORGETS not in kinds or plan.theme == "forgetting"
        assert plan.schedule == tuple(sorted(plan.schedule, key=lambda fault: fault.at_s))


def test_answer_of_a_chain_shows_what_does_not_belong() -> None:
    first = f" a.{check_of(first_check('prompt', 1), 'a')}"
    second = f" b.{check_of(first, 'b')}"
    third = f" c.{check_of(second, 'c')}"
    assert chain_answer("prompt", 1, [first, second, third], 3) == [first, second, third]
    assert chain_answer("prompt", 1, [first, third], 3) == [first, "?", "?"]
    assert chain_answer("other", 1, [first, second], 2) == ["?", second]
    assert chain_answer("prompt", 1, [first, None, third], 3) == [first, "?", third]


def test_shrinking_keeps_what_a_failure_needs() -> None:
    assert shrink(range(8), lambda places: {2, 5} <= set(places)) == [2, 5]
    assert shrink(range(3), lambda _: True) == []
