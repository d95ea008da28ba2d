"""The mutation gate: bugs that would lose or repeat tokens are planted one at a time, and the tests must catch each.

A mutant is a copy of the package with one text replaced. For each mutant the cheapest tests that should fail run in a
process of their own. The first test checks that the same tests pass without a bug.

The default run plants the bugs of `EACH_TIME` alone; `just test-mutations` plants all of them, in about five minutes.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
CONTEXT = "llmactors/ledger/redis/context.lua"
LIFECYCLE = "llmactors/ledger/redis/lifecycle.lua"
LEASES = "llmactors/ledger/redis/leases.lua"
WORKERS = "llmactors/ledger/redis/workers.lua"
CLAIMS = "llmactors/ledger/redis/claims.lua"
OFFERS = "llmactors/ledger/redis/offers.lua"
HANDING_OUT = "llmactors/ledger/redis/handing_out.lua"
LOCAL_WORKERS = "llmactors/ledger/redis/workers.py"
AFFINITY = "llmactors/ledger/redis/affinity.lua"
PREEMPTION = "llmactors/ledger/redis/preemption.lua"
REAPER = "llmactors/ledger/redis/reaper.lua"
LEDGER = "llmactors/ledger/redis/ledger.py"
LOG_READER = "llmactors/ledger/redis/log_reader.py"
LOG_COPIES = "llmactors/ledger/redis/log_copies.py"
RUNNING = "llmactors/batcher/running.py"
CLAIMER = "llmactors/batcher/claimer.py"
WRITER = "llmactors/batcher/writer.py"
CONTRACT = "tests/integration/ledger/test_redis_contract.py"
FAULTS = "tests/integration/ledger/test_redis_faults.py"
HANDED = "tests/integration/ledger/test_redis_handing_out.py"
VIRTUAL = "tests/virtual/batcher"
PYTEST = (sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--timeout", "20")


@attrs.frozen
class Mutant:
    """One bug."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    """A file or folder."""
    only: str
    """The tests to run, as an expression for pytest's `-k`."""


MUTANTS = [
    Mutant(
        "the epoch is not checked",
        WORKERS,
        "if r.st ~= 'r' or r.ep ~= epoch then return refuse(",
        "if r.st ~= 'r' then return refuse(",
        CONTRACT,
        "fenced or takeover",
    ),
    Mutant(
        "the claim of the worker is not compared",
        WORKERS,
        "string.sub(line, 1, #expected) == expected and",
        "",
        CONTRACT,
        "fenced or takeover or hole or repeated_append",
    ),
    Mutant(
        "a forgotten epoch is given out again",
        CLAIMS,
        "math.max(r.ep + 1, c.now)",
        "r.ep + 1",
        FAULTS,
        "forgotten_epoch",
    ),
    Mutant(
        "a request ends before its last tokens are written",
        RUNNING,
        "self.deltas[first:], self.end)",
        "() if self.end else self.deltas[first:], self.end)",
        f"{VIRTUAL}/test_continuous.py",
        "test",
    ),
    Mutant(
        "a drain does not wait for a claim that is under way",
        CLAIMER,
        "self._closed = True\n        await self.wait_claimed()\n",
        "self._closed = True\n",
        f"{VIRTUAL}/test_claiming.py",
        "drain",
    ),
    Mutant(
        "claims are begun by a backend that did not have the free slots",
        CLAIMER,
        "if worker == self.worker and free.incarnation == self._free_slots().incarnation:",
        "if True:",
        f"{VIRTUAL}/test_claiming.py",
        "larger_backend or lease_lost",
    ),
    Mutant(
        "a gap in a log is not filled",
        WRITER,
        "if gaps and not again:",
        "if False:",
        f"{VIRTUAL}/test_writer.py",
        "gap",
    ),
    Mutant(
        "the end is only told, not written",
        LIFECYCLE,
        "redis.call('XADD', key.log(c, r.id), string.format('%d-0', r.n + 1), 'e', last)",
        "",
        FAULTS,
        "end_is_in_the_log",
    ),
    Mutant(
        "a reader trusts pushes alone",
        LOG_READER,
        "if is_silent(copy, now, self._silence_s) or copy.is_behind or copy.needs_comparison:",
        "if False:",
        FAULTS,
        "missed_push or extended_from",
    ),
    Mutant(
        "a request that was passed over does not come back to its queue",
        AFFINITY,
        "    put_back_unserved(c, r)\n",
        "",
        CONTRACT,
        "next_turn",
    ),
    Mutant(
        "a request that gave up its slot does not come back to its queue",
        PREEMPTION,
        "  enqueue(c, running)\n",
        "",
        CONTRACT,
        "gave_way_goes_on",
    ),
    Mutant(
        "a lease never ends",
        REAPER,
        "for _, worker in ipairs(due_in(c, key.workers(c))) do",
        "for _, worker in ipairs({}) do",
        CONTRACT,
        "silent_worker",
    ),
    Mutant(
        "a worker that is gone keeps its requests until its lease ends",
        REAPER,
        "return is_disconnected(c, worker) and",
        "return false and",
        FAULTS,
        "disconnected_worker",
    ),
    Mutant(
        "what tokens carry beside their texts is not stored",
        "llmactors/ledger/redis/codec.py",
        "return _encode(deltas)",
        "return _encode([(delta.token, delta.text, None) for delta in deltas])",
        CONTRACT,
        "carry",
    ),
    Mutant(
        "what tokens carry does not count against the bound on logs",
        "llmactors/ledger/redis/context.lua",
        "local more = #tokens - number * settings(c).token_bytes",
        "local more = 0",
        FAULTS,
        "carry",
    ),
    Mutant(
        "attempts are not counted",
        CLAIMS,
        "math.max(r.ep + 1, c.now), r.at + 1, worker, 'r'",
        "math.max(r.ep + 1, c.now), r.at, worker, 'r'",
        CONTRACT,
        "attempt or convict",
    ),
    Mutant(
        "how far a log is gets lost with its worker",
        LIFECYCLE,
        "    put(c, r, 'n', r.n, 'rn', r.rn)\n",
        "    put(c, r, 'rn', r.rn)\n",
        CONTRACT,
        "takeover or drain",
    ),
    Mutant(
        "a new reader of a running request gets no pushes",
        CONTEXT,
        "put(c, r, 'g', r.g)\n  if r.h then write_live(c, r) end",
        "put(c, r, 'g', r.g)",
        FAULTS,
        "late_reader",
    ),
    Mutant(
        "a repeated claim forgets what the first one claimed",
        CLAIMS,
        "local found = untold(c, worker, args[8])",
        "local found = {}",
        FAULTS,
        "repeated_claim",
    ),
    Mutant(
        "a request is handed to a worker that is gone",
        HANDING_OUT,
        "and is_connected(known[1]) and known[1] or false",
        "and known[1] or false",
        HANDED,
        "dead_worker",
    ),
    Mutant(
        "a request is handed to a worker that may be stopped",
        HANDING_OUT,
        "tonumber(due) < c.now + settings(c).lease_ms / 2",
        "false",
        HANDED,
        "silent_worker",
    ),
    Mutant(
        "a request is handed to a worker that handed one back",
        WORKERS,
        "  offer_slots(c, r.h, r.m, 0)\n",
        "",
        HANDED,
        "takes_none",
    ),
    Mutant(
        "a lost message of a request that was handed out is never repeated",
        CLAIMS,
        "local found = untold(c, worker, args[8])",
        "local found = {}",
        HANDED,
        "lost_message or on_its_way",
    ),
    Mutant(
        "a request that was handed out is begun a second time",
        LOCAL_WORKERS,
        "[each for each in claims if each[0] not in self._told]",
        "claims",
        HANDED,
        "lost_message or late_answer",
    ),
    Mutant(
        "a slot is open a second time for a request that was cancelled",
        LIFECYCLE,
        "  detach(c, r)\n  -- Settled",
        "  if r.h then reopen_slot(c, r.h, r.m) end\n  detach(c, r)\n  -- Settled",
        HANDED,
        "keeps_its_slot",
    ),
    Mutant(
        "an open slot stays open though a request was handed to it",
        HANDING_OUT,
        "  offer_slots(c, worker, r.m, slots - 1)\n",
        "",
        HANDED,
        "no_more",
    ),
    Mutant(
        "a request in quarantine is handed out",
        HANDING_OUT,
        "if r.qn then",
        "if false then",
        HANDED,
        "suspect",
    ),
    Mutant(
        "a claim whose reply was lost is not handed back",
        LEDGER,
        "for request_id, epoch in self._workers.get(worker).unaccounted(found):",
        "for request_id, epoch in ():",
        FAULTS,
        "lost_reply or forgotten_end",
    ),
    Mutant(
        "an append that is repeated is written again",
        WORKERS,
        "if first < r.n + 1 then return OVERLAP, r.n end",
        "",
        CONTRACT,
        "repeated_append",
    ),
    Mutant(
        "a hole in a log is written over",
        WORKERS,
        "if first > r.n + 1 then return GAP, r.n + 1 end",
        "",
        CONTRACT,
        "hole",
    ),
    Mutant(
        "a forgotten request is not admitted again",
        LOG_READER,
        'await self._functions.call_until_done("restore", *parts)',
        "await trio.lowlevel.checkpoint()",
        FAULTS,
        "restored",
    ),
    Mutant(
        "a mended log is continued by who does not know it",
        LOG_READER,
        'hand_back = state == b"r" and epoch != copy.epoch',
        "hand_back = False",
        FAULTS,
        "behind_the_extended",
    ),
    Mutant(
        "other words are passed off as those that were sent",
        LOG_COPIES,
        "if self.tokens[first_seq - 1 : first_seq - 1 + len(again)] != list(again):",
        "if False:",
        FAULTS,
        "changed_tokens",
    ),
    Mutant(
        "an outage of the ledger ends every lease",
        LEASES,
        "if c.now - seen < s.outage_ms then return end",
        "if true then return end",
        FAULTS,
        "outage_of_the_ledger",
    ),
    Mutant(
        "a drain counts as an attempt",
        WORKERS,
        "    detach(c, r)\n    r.at = r.at - 1\n",
        "    detach(c, r)\n",
        CONTRACT,
        "drain",
    ),
    Mutant(
        "a worker is not told of a cancel",
        LIFECYCLE,
        "redis.call('ZADD', key.stops(c, r.h), c.now + s.lease_ms,",
        "redis.call('ZADD', key.held(c, r.h .. ':other'), c.now + s.lease_ms,",
        CONTRACT,
        "stopped or told_of_a_cancel",
    ),
    Mutant(
        "a stop of all workers counts against requests",
        LEASES,
        "if not counts then r.at = r.at - 1 end",
        "",
        CONTRACT,
        "stop_of_all",
    ),
    Mutant(
        "a worker that goes on after a stop has its requests charged",
        LEASES,
        "if counts then put(c, r, 'at', r.at - 1) end",
        "",
        CONTRACT,
        "stop_of_one or taken_back",
    ),
    Mutant(
        "silence is taken for a death",
        LEASES,
        "if alone and counts and silent_attempts(r) + 1 >= SILENT_ATTEMPTS_MAX then",
        "if alone and counts then",
        CONTRACT,
        "silence_alone",
    ),
    Mutant(
        "a new incarnation proves no death",
        LEASES,
        "if alone and deaths(r) >= settings(c).quarantine_from then",
        "if false then",
        CONTRACT,
        "proves_the_death",
    ),
    Mutant(
        "a stopped gateway is no reader any more",
        REAPER,
        "if due < c.now and is_connected(channel) then",
        "if false then",
        FAULTS,
        "stopped_gateway",
    ),
    Mutant(
        "a loud tenant evicts the answers of others",
        LIFECYCLE,
        "redis.call('ZREVRANGE', crowded, 0, 0)[1]",
        "nil",
        CONTRACT,
        "evicts_its_own",
    ),
    Mutant(
        "a repeated end is recorded again",
        WORKERS,
        "if entry and entry[2][1] == 'e' and entry[2][2] == last then return OK end",
        "if entry and entry[2][2] == last then note_usage(c, r, used_by(r, last)) return OK end",
        CONTRACT,
        "recorded_once",
    ),
    Mutant(
        "accepted work is refused where Redis is full",
        WORKERS,
        "register('append', append, { 'allow-oom' })",
        "register('append', append, {})",
        FAULTS,
        "full_redis",
    ),
]


EACH_TIME = {
    "the epoch is not checked",
    "a request ends before its last tokens are written",
    "how far a log is gets lost with its worker",
    "an append that is repeated is written again",
    "silence is taken for a death",
}
"""The names of the bugs that are planted in each run of all tests: one of each kind."""


def _planted(*, each_time: bool) -> list[Any]:
    """The bugs that the default run plants, or all others."""
    marks = () if each_time else (pytest.mark.planted,)
    chosen = [mutant for mutant in MUTANTS if (mutant.name in EACH_TIME) is each_time]
    return [pytest.param(mutant, marks=marks, id=mutant.name.replace(" ", "-")) for mutant in chosen]


def run_tests(root: Path, selections: list[tuple[str, str]]) -> tuple[int, str]:
    """Runs the selected tests of the package at `root`; returns the exit code and the output of pytest."""
    expression = " or ".join(f"({only})" for _, only in selections)
    files = sorted({tests for tests, _ in selections})
    done = subprocess.run(
        [*PYTEST, *files, "-k", f"({expression}) and not redis]"],
        cwd=root,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=200,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mutant")
    for name in ("llmactors", "tests"):
        # With what Python has compiled, which is as old as the files: to compile all of them takes seconds.
        shutil.copytree(ROOT / name, root / name)
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def test_default_run_plants_bugs_that_exist() -> None:
    assert {mutant.name for mutant in MUTANTS} >= EACH_TIME


@pytest.mark.planted
def test_tests_pass_without_a_planted_bug(copy: Path) -> None:
    code, said = run_tests(copy, [(mutant.tests, mutant.only) for mutant in MUTANTS])
    assert code == 0, said[-3000:]


@pytest.mark.parametrize("mutant", [*_planted(each_time=True), *_planted(each_time=False)])
def test_planted_bug_is_caught(copy: Path, mutant: Mutant) -> None:
    path = copy / mutant.file
    text = path.read_text("utf-8")
    assert text.count(mutant.old) == 1, "the code has changed: plant this bug anew"
    path.write_text(text.replace(mutant.old, mutant.new), "utf-8")
    try:
        code, said = run_tests(copy, [(mutant.tests, mutant.only)])
    finally:
        path.write_text(text, "utf-8")
    assert code == 1, said[-3000:]
    assert "failed" in said
