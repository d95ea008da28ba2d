"""The planted faults belong to rows and tests of `tests/FAULTS.md`. `just test-faults` plants them."""

from tests.faults.fault import TABLE, WITH_A_BROWSER, caught_by, rows
from tests.faults.tables import FAULTS


def test_planted_faults_are_those_of_the_table() -> None:
    for faults in FAULTS.values():
        for fault in faults:
            assert fault.edits, fault.row
            assert caught_by(fault), fault.row


def test_each_test_of_a_row_has_a_planted_fault() -> None:
    planted = {test for faults in FAULTS.values() for fault in faults for test in caught_by(fault)}
    for row, tests in rows().items():
        if not planted.isdisjoint(tests):
            left = {test for test in tests if test not in planted and not test.startswith(WITH_A_BROWSER)}
            assert not left, f"{TABLE.name}: {row}"
