"""Files that are whole or not there: a download becomes visible only after its checksum was found right.

Beside each file lies `NAME.verified`, which says what was checked, so that a start need not hash gigabytes again.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import platformdirs

from llmactors.config import CACHE_VARIABLE
from llmactors.errors import ModelError


class _Verified(msgspec.Struct, frozen=True):
    sha256: str
    size_bytes: int
    mtime_ns: int


def cache_root(cache_dir: Path | None = None) -> Path:
    """Where models are kept: `cache_dir`, else `LLMACTORS_CACHE`, else the user's cache directory."""
    chosen = cache_dir or os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("llmactors")
    return Path(chosen) / "models"


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """One process at a time fetches `target`; the others wait. The lock dies with its holder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _beside(target, "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_verified(target: Path, sha256: str | None) -> bool:
    """Whether `target` is there, was checked, and was not touched since."""
    try:
        found = target.stat()
        verified = msgspec.json.decode(_beside(target, "verified").read_bytes(), type=_Verified)
    except (FileNotFoundError, msgspec.MsgspecError):
        return False
    untouched = (verified.size_bytes, verified.mtime_ns) == (found.st_size, found.st_mtime_ns)
    return untouched and sha256 in {None, verified.sha256}


def install(part: Path, target: Path, sha256: str | None) -> None:
    """Checks `part` and makes it `target` in one step. A wrong one is deleted.

    Raises:
        ModelError: the checksum is wrong.
    """
    with part.open("rb") as file:
        os.fsync(file.fileno())
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and actual != sha256:
        part.unlink()
        raise ModelError(
            f"{target.name} was downloaded damaged and is deleted: its sha256 is {actual[:12]}…, not {sha256[:12]}…;"
            " try again, and suspect a proxy if it fails again",
        )
    part.replace(target)
    found = target.stat()
    mark = _Verified(actual, found.st_size, found.st_mtime_ns)
    draft = _beside(target, "verified.part")
    draft.write_bytes(msgspec.json.encode(mark))
    draft.replace(_beside(target, "verified"))


def part_of(target: Path) -> Path:
    """Where `target` grows."""
    return _beside(target, "part")


@contextlib.contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turns what the file system says into one line for the operator."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ModelError(
                f"the disk is full: free some space, or set {CACHE_VARIABLE} to another place than {root}"
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise ModelError(f"{root} cannot be written: set {CACHE_VARIABLE} to a place that can") from error
        raise ModelError(f"the model cannot be stored in {root}: {error.strerror or error}") from error


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f"{target.name}.{kind}")
