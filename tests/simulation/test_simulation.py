"""A few seeds of the simulation in each run of the tests; `just test-simulation --seeds N` runs more."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from llmactors.redislink.names import LedgerKey, RedisNames
from tests.simulation.backend import chain_answer, check_of, first_check
from tests.simulation.faults import FORGETS, KINDS
from tests.simulation.recording import read_bounds
from tests.simulation.seeds import shrink
from tests.simulation.strikes import Charges
from tests.simulation.themes import THEMES, plan_of

SEEDS = 7
_LEFT_OUT = {"calm", "losses", "shards"}
"""Themes that the tests have no time for. `just test-shards` runs seeds of `shards`."""
_patient = pytest.mark.timeout(240)
"""For a run that takes seconds of the processor, and a minute on a machine with much else to do."""


def _simulate(*options: str, hash_seed: int = 0) -> str:
    command = [sys.executable, "-m", "tests.simulation", *options]
    environ = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@_patient
def test_cluster_keeps_its_promise_in_seeds_of_most_themes() -> None:
    themes = [plan_of(seed).theme for seed in range(5000)]
    first = next(seed for seed in range(5000) if {*themes[seed : seed + SEEDS]} == {*THEMES} - _LEFT_OUT)
    shown = _simulate("--first", str(first), "--seeds", str(SEEDS), "--jobs", "1")
    assert f"{SEEDS} seeds, 0 of them failed" in shown
    assert re.search(r"[\d,]+ requests, [\d,]{4,} tokens, lost 0, repeated 0, wrong 0", shown)


@_patient
@pytest.mark.shards
def test_ledger_on_three_servers_keeps_its_promise() -> None:
    shown = _simulate("--theme", "shards", "--first", "1", "--seeds", "5", "--jobs", "1")
    assert "5 seeds, 0 of them failed" in shown


@_patient
def test_seed_does_the_same_twice() -> None:
    first, again = (_simulate("--seed", "3", hash_seed=hash_seed) for hash_seed in (1, 2))
    traces = [re.findall(r"^trace ([0-9a-f]{64})$", text, re.MULTILINE) for text in (first, again)]
    assert traces[0] == traces[1] != []


def test_seeds_have_every_theme_and_every_kind_of_fault() -> None:
    plans = [plan_of(seed) for seed in range(400)]
    assert {plan.theme for plan in plans} == {*THEMES} - {"shards"}
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


def test_recording_shows_more_requests_than_slots(tmp_path: Path) -> None:
    names = RedisNames("main")
    held, log = names.ledger(LedgerKey.HELD, "w"), names.ledger(LedgerKey.LOG, "r")
    commands = [f'"ZADD" "{held}" "{number}" "r{number}"' for number in range(3)]
    assert not _bounds(tmp_path, [*commands[:2], f'"ZREM" "{held}" "r0"', commands[2]])
    assert _bounds(tmp_path, commands) == [f"{held} had more than 2 members"]
    written = [f'"XADD" "{log}" "1-0" "t" "x"', f'"XADD" "{log}" "2-0" "e" "y"']
    assert not _bounds(tmp_path, written)
    assert _bounds(tmp_path, [*written, f'"XADD" "{log}" "3-0" "e" "y"']) == [f"{log} was written behind its end"]


def _bounds(folder: Path, commands: Sequence[str]) -> list[str]:
    recording = folder / "recording"
    recording.write_text("".join(f"1700000000.000001 [0 lua] {command}\n" for command in commands))
    return read_bounds(recording, 2, 2)


def test_request_is_charged_for_deaths_and_present_silences() -> None:
    charges = Charges(deaths=[2.0, 9.0], silences=[(3.0, 6.0)])
    assert [charges.before(at) for at in (1.0, 2.5, 5.0, 7.0, 9.5)] == [0, 1, 2, 1, 2]


def test_shrinking_keeps_what_a_failure_needs() -> None:
    assert shrink(range(8), lambda places: {2, 5} <= set(places)) == [2, 5]
    assert shrink(range(3), lambda _: True) == []
