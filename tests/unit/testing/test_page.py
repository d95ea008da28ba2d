"""The programs of TESTING.md run as they stand there."""

import importlib.resources
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = importlib.resources.files("llmactors.testing").joinpath("TESTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(?:python|ini)\n(.*?)```", PAGE, re.DOTALL)
NODE, CLUSTER, PYTEST_INI, CONFTEST, TEST_MODULE = BLOCKS

pytestmark = pytest.mark.integration


def run(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=55
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_node_program_runs(tmp_path: Path) -> None:
    run(tmp_path, "-c", NODE)


def test_cluster_program_loses_nothing(tmp_path: Path) -> None:
    assert "1 workers killed" in run(tmp_path, "-c", CLUSTER)


def test_ledger_of_a_third_party_runs_the_suite(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(PYTEST_INI)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_my_ledger.py").write_text(TEST_MODULE)
    said = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "test_my_ledger.py")
    (passed,) = re.findall(r"(\d+) passed", said)
    assert int(passed) > 80
