"""The table of tests that run in one process."""

from pathlib import Path

from tests.support.groups import GROUPS

TESTS = Path(__file__).parents[1]
GROUPED = {file for files in GROUPS.values() for file in files}


def test_grouped_files_exist() -> None:
    assert [file for file in GROUPED if not (TESTS / file).is_file()] == []


def test_files_with_a_fixture_of_the_module_are_in_a_group() -> None:
    """Otherwise each process of pytest-xdist starts the nodes of the fixture."""
    sharing = {
        str(path.relative_to(TESTS))
        for path in (TESTS / "integration").rglob("test_*.py")
        if 'scope="module"' in path.read_text("utf-8")
    }
    assert sharing - GROUPED == set()
