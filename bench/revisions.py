"""Copies of the project at a commit, or as the working tree has it, from which servers are run."""

import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import attrs

from bench.processes import ROOT, environment

WORKING_TREE = "working tree"
PACKAGE = "llmactors"


class RevisionError(Exception):
    """A revision cannot be measured. The message says why in one line."""


@attrs.frozen
class Revision:
    """One copy of the project."""

    name: str
    """The revision as the user names it, or `working tree`."""
    title: str
    """Short hash and subject of the commit; for the working tree, those of the commit below it."""
    root: Path
    """The directory of the copy."""
    settings: Mapping[str, object] = attrs.field(factory=dict)
    """Settings of llmactors with which the copy runs."""


def export(name: str | None, to: Path, repository: Path = ROOT) -> Revision:
    """Copy the commit `name` of `repository` to the new directory `to`; None copies the working tree.

    The working tree is copied too, so that edits made during a measurement have no effect. The copy holds the files
    that git tracks, and the new ones that git does not ignore.

    Raises:
        RevisionError: `name` is no commit, or git cannot read the repository.
    """
    commit = commit_of("HEAD" if name is None else name, repository)
    to.mkdir()
    if name is None:
        listed = _git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        for path in filter(None, listed.decode().split("\0")):
            if (repository / path).is_file():  # a tracked file may have been deleted
                (to / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(repository / path, to / path)
    else:
        archive = io.BytesIO(_git(repository, "archive", "--format=tar", commit))
        with tarfile.open(fileobj=archive) as files:
            files.extractall(to, filter="data")
    title = _git(repository, "log", "-1", "--format=%h %s", commit).decode().strip()
    return Revision(name or WORKING_TREE, title, to)


def commit_of(name: str, repository: Path = ROOT) -> str:
    """The full hash of the commit `name`. Raises `RevisionError` if `repository` has no such commit."""
    _git(repository, "rev-parse", "--git-dir")
    try:
        return _git(repository, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}").decode().strip()
    except RevisionError as error:
        raise RevisionError(f"{name!r} is no commit of {repository}: give a branch, a tag or a hash") from error


def check_import(revision: Revision) -> Path:
    """The file of the package that a server of this revision imports.

    Servers of all revisions run in the Python environment of this process, which may have a version of the package
    installed. A server must import the package of its own copy instead.

    Raises:
        RevisionError: A Python process in the copy imports another package, or none.
    """
    command = (sys.executable, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)")
    done = subprocess.run(
        command, cwd=revision.root, env=environment(revision.root), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RevisionError(f"{revision.name} has no package that can be imported: {_last_line(done.stderr)}")
    found = Path(done.stdout.strip()).resolve()
    if not found.is_relative_to(revision.root.resolve()):
        raise RevisionError(
            f"a server of {revision.name} would import {found} instead of the package in {revision.root}: "
            f"uninstall that package, or use another Python environment"
        )
    return found


def _git(repository: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(("git", "-C", str(repository), *arguments), capture_output=True, check=False)
    except FileNotFoundError as error:
        raise RevisionError("git is not installed, and revisions are read with git") from error
    if done.returncode != 0:
        reason = _last_line(done.stderr.decode(errors="replace"))
        raise RevisionError(f"`git {arguments[0]}` failed in {repository}: {reason}")
    return done.stdout


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
