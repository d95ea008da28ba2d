"""Revisions are copied, checked and compared. A commit that is compared with itself has finite ratios."""

import math
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from bench.compare import compare
from bench.comparison import Comparison
from bench.processes import ROOT
from bench.revisions import Revision, RevisionError, check_import, export
from bench.scenario import Bench
from bench.servers import ALONE
from bench.workloads import WORKLOADS

pytestmark = pytest.mark.integration


def git(repository: Path, *arguments: str) -> None:
    named = ("-c", "user.name=a", "-c", "user.email=a@example.invalid")
    subprocess.run(("git", "-C", repository, *named, *arguments), check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One commit of a package, and a working tree that differs from the commit."""
    home = tmp_path / "repository"
    (home / "llmactors").mkdir(parents=True)
    (home / "llmactors" / "__init__.py").write_text("VERSION = 1\n")
    (home / "gone.txt").write_text("")
    (home / ".gitignore").write_text("*.log\n")
    git(tmp_path, "init", "--quiet", str(home))
    git(home, "add", "--all")
    git(home, "commit", "--quiet", "--message", "The first")
    (home / "llmactors" / "__init__.py").write_text("VERSION = 2\n")
    (home / "llmactors" / "new.py").write_text("")
    (home / "gone.txt").unlink()
    (home / "server.log").write_text("")
    return home


def files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_commit_is_copied_without_the_working_tree(repository: Path, tmp_path: Path) -> None:
    revision = export("HEAD", tmp_path / "copy", repository)
    assert files(revision.root) == {"llmactors/__init__.py": "VERSION = 1\n", "gone.txt": "", ".gitignore": "*.log\n"}
    assert revision.title.endswith(" The first")


def test_working_tree_is_copied_with_new_files(repository: Path, tmp_path: Path) -> None:
    revision = export(None, tmp_path / "copy", repository)
    names = {"llmactors/__init__.py": "VERSION = 2\n", "llmactors/new.py": "", ".gitignore": "*.log\n"}
    assert files(revision.root) == names
    assert revision.name == "working tree"


@pytest.mark.parametrize("name", ["no-such-branch", "--all", "HEAD:gone.txt", ""])
def test_unknown_revision_is_refused_in_one_line(name: str, repository: Path, tmp_path: Path) -> None:
    with pytest.raises(RevisionError, match="is no commit of") as caught:
        export(name, tmp_path / "copy", repository)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "copy").exists()


def test_directory_without_a_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RevisionError, match="not a git repository"):
        export("HEAD", tmp_path / "copy", tmp_path)


def test_server_must_import_the_package_of_its_copy(repository: Path, tmp_path: Path) -> None:
    revision = export("HEAD", tmp_path / "copy", repository)
    assert check_import(revision) == tmp_path / "copy" / "llmactors" / "__init__.py"
    (tmp_path / "empty").mkdir()
    with pytest.raises(RevisionError):
        check_import(Revision("empty", "", tmp_path / "empty"))


def test_command_refuses_an_unknown_revision() -> None:
    command = (sys.executable, "-m", "bench.compare", "no-such-branch")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("bench.compare: 'no-such-branch' is no commit of ")
    assert done.stderr.count("\n") == 1


def test_commit_compared_with_itself_has_finite_ratios(tmp_path: Path) -> None:
    revisions = export("HEAD", tmp_path / "first"), export("HEAD", tmp_path / "second")
    few = attrs.evolve(WORKLOADS["paced"], clients=4, requests=4, max_tokens=10, turn_s=0.2)
    comparison = Comparison(ALONE, few)
    compare(Bench(), revisions, [comparison], rounds=1, seconds=0.2)
    assert comparison.errors == []
    assert [len(pairs) for pairs in comparison.rounds] == [2]
    for turn in (turn for pair in comparison.rounds[0] for turn in pair):
        assert (turn["correct"], turn["failed"], turn["tokens"]) == (4, 0, 40)
        assert turn["plan"]["check"] == "mock"
    for figure, statistics in comparison.rows():
        assert statistics is not None, figure
        assert math.isfinite(statistics.ratio.median)
        assert statistics.before > 0
