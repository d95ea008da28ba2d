"""The ledger tests of TESTING.md run as they stand there. Its other programs run with those of all documents."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import blocks

PAGE = "llmactors/testing/TESTING.md"
PYTEST_INI, CONFTEST, TEST_MODULE = [block.text for block in blocks(PAGE) if block.mark != "run"]

pytestmark = pytest.mark.integration


def test_ledger_of_a_third_party_runs_the_suite(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(PYTEST_INI)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_my_ledger.py").write_text(TEST_MODULE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=55)
    assert done.returncode == 0, done.stdout + done.stderr
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 80
