"""Plant each fault of `tests/FAULTS.md` in a copy of the package, and show which of its tests fail.

    python -m tests.faults              # all faults
    python -m tests.faults redis WORD   # the faults whose row or module has one of these words
    python -m tests.faults --check      # only look whether the faults fit to the code, in a second

The program exits with 1 if a test does not fail though its fault is back, or fails without it.
"""

import argparse
import contextlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import attrs

from tests.faults.fault import ROOT, Fault, caught_by, check_edit, planted, rows
from tests.faults.tables import FAULTS

_PYTEST = (sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--timeout", "80", "-m", "")
_SUITE = "llmactors/testing/ledger_suite/"
_CONTRACTS = ("tests/unit/ledger/test_contract.py", "tests/integration/ledger/test_redis_contract.py")
_LIMIT_S = 400.0


@attrs.frozen
class Outcome:
    """What the tests of one fault said."""

    passed: list[str]
    """The tests that did not fail."""
    said: str
    """The first reason of a failure."""
    seconds: float


def copy_of_the_package(folder: Path) -> Path:
    """A copy of the code in which faults can be planted."""
    for name in ("llmactors", "tests", "bench"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, folder)
    return folder


def try_fault(root: Path, fault: Fault) -> Outcome:
    """Run the tests of `fault` while it is planted."""
    began = time.monotonic()
    tests = caught_by(fault)
    with planted(root, fault):
        said = "\n".join(_run(root, test, fault.cases) for test in tests)
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S+?::(?:\w+::)*(\w+)", said, re.MULTILINE))
    passed = [test for test in tests if not _is_caught(test, failed)]
    return Outcome(passed, _reason(said), time.monotonic() - began)


def fails_anyway(root: Path, fault: Fault) -> list[str]:
    """The tests of `fault` that fail without the fault. Such a test shows nothing."""
    return [test for test in caught_by(fault) if not _passes(root, test, fault.cases)]


@cache
def _passes(root: Path, test: str, cases: str) -> bool:
    return " failed" not in (said := _run(root, test, cases)) and " passed" in said


def _reason(said: str) -> str:
    """The first error in the output of pytest, in whichever form a test or a nursery raised it."""
    pattern = r"^(?:E +|[ |]*[|] +)((?:assert |[\w.]*(?:Error|Exception|Timeout|Expired|Failed)\b).*)$"
    found = re.findall(pattern, said, re.MULTILINE)
    errors = [line for line in found if not line.startswith(("assert ", "Exception"))]
    return (errors or found or said.splitlines()[-1:] or [""])[0][:160]


def _run(root: Path, test: str, cases: str) -> str:
    file, _, name = test.partition(":")
    if file.startswith(_SUITE):
        words = [*_CONTRACTS, "-k", " or ".join(_cases_of_suite(file, name))]
    else:
        words = [f"{file}::{name}" if name else file, *(("-k", cases) if cases else ())]
    with subprocess.Popen(
        [*_PYTEST, *words],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PYTHONPATH": str(root), "PATH": "/usr/sbin:/usr/bin:/bin:/usr/local/bin", "HOME": str(root)},
        start_new_session=True,
    ) as running:
        try:
            said, _ = running.communicate(timeout=_LIMIT_S)
        except subprocess.TimeoutExpired:
            said = f"E   TimeoutExpired\nFAILED {file}::{name}"
        finally:
            # With a fault, a test can leave processes behind that never end.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
    return said


def _cases_of_suite(file: str, name: str) -> list[str]:
    """The test, or all tests of a suite of the ledger's contract, which runs against every ledger."""
    suite, _, test = name.partition(".")
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    return [test] if test else [each for each in vars(getattr(module, suite)) if each.startswith("test_")]


def _is_caught(test: str, failed: set[str]) -> bool:
    name = test.partition(":")[2].rpartition(".")[2]
    return name in failed if name.startswith("test_") else bool(failed)


def stale(fault: Fault) -> str:
    """Why `fault` fits no longer to the code or the table; empty if it fits."""
    try:
        caught_by(fault)
        for edit in fault.edits:
            check_edit(edit, (ROOT / edit.path).read_text("utf-8"))
    except LookupError as error:
        return str(error)
    return ""


def judge(root: Path, fault: Fault) -> tuple[bool, str]:
    """Whether the tests of `fault` catch it, and what there is to say of that."""
    if why := stale(fault):
        return False, why
    if broken := fails_anyway(root, fault):
        return False, f"{', '.join(broken)} fails without the fault, and so shows nothing"
    outcome = try_fault(root, fault)
    if outcome.passed:
        return False, f"NOT CAUGHT by {', '.join(outcome.passed)}"
    return True, f"caught in {outcome.seconds:.0f} s: {outcome.said}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Plant faults, and see the tests fail.")
    parser.add_argument("words", nargs="*", help="parts of the faults' rows or of their module's name [all faults]")
    parser.add_argument("--check", action="store_true", help="only look whether the faults fit to the code")
    given = parser.parse_args()
    words = [word.lower() for word in given.words]
    chosen = [
        (module, fault)
        for module, faults in FAULTS.items()
        for fault in faults
        if not words or any(word in f"{module}: {fault.row}".lower() for word in words)
    ]
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="llmactors-faults-") as folder:
        root = copy_of_the_package(Path(folder))
        for module, fault in chosen:
            is_right, found = (not (why := stale(fault)), why) if given.check else judge(root, fault)
            wrong += not is_right
            if found:
                print(f"{module}: {fault.row}\n    {found}", flush=True)
    for row in without_a_fault():
        print(f"no fault is planted for: {row}")
    print(f"{wrong} of {len(chosen)} faults are not caught or do not fit")
    raise SystemExit(1 if wrong or not chosen else 0)


def without_a_fault() -> list[str]:
    """The rows of the table for which no fault is planted."""
    planted_for = [fault.row for faults in FAULTS.values() for fault in faults]
    return [row for row in rows() if not any(row.startswith(each) for each in planted_for)]


if __name__ == "__main__":
    main()
