"""The shape of the package: which part may know which, and what stands at its top."""

import subprocess
import sys
from pathlib import Path

import pytest

import llmactors

PACKAGE = Path(llmactors.__file__).parent
PROJECT = PACKAGE.parent

TOP_LEVEL = {
    "__init__.py",
    "__main__.py",
    "access",
    "actors",
    "backends",
    "batcher",
    "cli",
    "cluster",
    "config.py",
    "errors.py",
    "gateway",
    "http",
    "ledger",
    "limiter",
    "load",
    "messages.py",
    "py.typed",
    "redislink",
    "system",
    "telemetry",
    "testing",
}
"""What the design names, and the marker that the package has types."""


@pytest.mark.skipif(not (PROJECT / "pyproject.toml").exists(), reason="the contracts are in the project's own files")
def test_imports_point_one_way() -> None:
    command = (
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None, no_cache=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_top_level_has_what_the_design_names() -> None:
    found = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert found <= TOP_LEVEL
    assert not TOP_LEVEL - found


def test_every_part_of_the_package_has_a_place_in_the_layers() -> None:
    contracts = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    for name in TOP_LEVEL - {"__init__.py", "__main__.py", "py.typed", "testing"}:
        assert f"llmactors.{name.removesuffix('.py')}" in contracts
