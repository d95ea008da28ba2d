"""Faults that are planted on purpose: for each row of `tests/FAULTS.md`, code without what mends the fault."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]
WITH_A_BROWSER = "tests/clients/test_browser.py"
"""Its tests need Chromium. Tests without a browser are in the same rows."""
TABLE = ROOT / "tests" / "FAULTS.md"


@attrs.frozen
class Edit:
    """One change of the code. `old` stands once in `file`."""

    file: str
    """The path below the package."""
    old: str
    new: str

    @property
    def path(self) -> str:
        """The path below the root of the repository."""
        return f"llmactors/{self.file}"


@attrs.frozen
class Fault:
    """What brings a fault back."""

    row: str
    """The beginning of the row in the table."""
    edits: tuple[Edit, ...]
    tests: tuple[str, ...] = ()
    """The tests that fail with the fault, as the table writes them; empty for all tests of the row."""
    cases: str = ""
    """Which cases of the tests run, as an expression for pytest's `-k`; empty for all of them."""


def rows() -> dict[str, tuple[str, ...]]:
    """The tests of each row of the table, by the text of the row."""
    found = {}
    for line in TABLE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 2 and cells[0] != "fault":
            found[cells[0]] = tuple(re.findall(r"`([^`]+)`", cells[1]))
    return found


def caught_by(fault: Fault) -> tuple[str, ...]:
    """The tests that must fail with `fault`. Raises `LookupError` where the table has no such row or test."""
    [tests] = [tests for row, tests in rows().items() if row.startswith(fault.row)] or [()]
    if missing := [test for test in fault.tests if test not in tests] or ([fault.row] if not tests else []):
        raise LookupError(f"{TABLE.name} has no {missing}")
    return fault.tests or tuple(test for test in tests if not test.startswith(WITH_A_BROWSER))


@contextlib.contextmanager
def planted(root: Path, fault: Fault) -> Iterator[None]:
    """Changes the copy of the code at `root`, and puts it back. Raises `LookupError` where the code is another."""
    before = {edit.path: (root / edit.path).read_text("utf-8") for edit in fault.edits}
    try:
        for edit in fault.edits:
            text = (root / edit.path).read_text("utf-8")
            check_edit(edit, text)
            (root / edit.path).write_text(text.replace(edit.old, edit.new), "utf-8")
        yield
    finally:
        for path, text in before.items():
            (root / path).write_text(text, "utf-8")


def check_edit(edit: Edit, text: str) -> None:
    """Raises `LookupError` if `edit` does not fit to the text of its file."""
    if (count := text.count(edit.old)) != 1:
        raise LookupError(f"{edit.path} has {edit.old!r} {count} times: the code has changed, so plant the fault anew")
