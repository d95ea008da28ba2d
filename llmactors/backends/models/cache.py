"""The cache of model files. A download becomes visible only after its checksum was found right.

Beside each file lies `NAME.verified` with the checksum and size of the file, so that a start need not hash it again.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from llmactors.config import CACHE_VARIABLE
from llmactors.config.user_folders import cache_of_user
from llmactors.errors import ModelError

_MAX_HOLDER_CHARS = 200


class _Verified(msgspec.Struct, frozen=True):
    sha256: str
    size_bytes: int
    mtime_ns: int


def cache_root(cache_dir: Path | None = None) -> Path:
    """The directory of the models, in `cache_dir`, or `LLMACTORS_CACHE`, or the cache directory of the user.

    Raises `ModelError` where none is given and the user has no home: no HOME, and no entry among the system's users.
    """
    chosen = cache_dir or os.environ.get(CACHE_VARIABLE, "").strip() or cache_of_user()
    if chosen is None:
        raise ModelError(f"this user has no home directory: set HOME, or {CACHE_VARIABLE} to a directory for models")
    return Path(chosen) / "models"


@contextlib.contextmanager
def locked(target: Path, wait: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Holds a lock, so that one process at a time downloads `target`. The lock ends with the process that holds it.

    `wait` is called where another process holds the lock, with a name of that process, before this process waits.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _beside(target, "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            wait(file.read(_MAX_HOLDER_CHARS) or "an unknown process")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def is_verified(target: Path, sha256: str | None) -> bool:
    """Whether `target` is there, was checked, and has not been changed since."""
    try:
        found = target.stat()
        verified = msgspec.json.decode(_beside(target, "verified").read_bytes(), type=_Verified)
    except (FileNotFoundError, msgspec.MsgspecError):
        return False
    untouched = (verified.size_bytes, verified.mtime_ns) == (found.st_size, found.st_mtime_ns)
    return untouched and sha256 in {None, verified.sha256}


def install(part: Path, target: Path, sha256: str | None) -> None:
    """Checks `part`, and renames it to `target`. A file with a wrong checksum is deleted.

    Raises:
        ModelError: The checksum is wrong.
    """
    with part.open("rb") as file:
        os.fsync(file.fileno())
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and actual != sha256:
        part.unlink()
        raise ModelError(
            f"{target.name} was downloaded damaged and was deleted: its sha256 is {actual[:12]}…, not {sha256[:12]}…;"
            " try again, and check the proxy if that fails too",
        )
    part.replace(target)
    found = target.stat()
    mark = _Verified(actual, found.st_size, found.st_mtime_ns)
    draft = _beside(target, "verified.part")
    draft.write_bytes(msgspec.json.encode(mark))
    draft.replace(_beside(target, "verified"))


def part_of(target: Path) -> Path:
    """The file that a download of `target` writes to."""
    return _beside(target, "part")


@contextlib.contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turns errors of the file system into `ModelError`s that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ModelError(
                f"the disk with {root} is full: free some space there, or set {CACHE_VARIABLE} to a directory elsewhere"
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise ModelError(f"{root} cannot be written: set {CACHE_VARIABLE} to a directory that can") from error
        raise ModelError(f"the model cannot be stored in {root}: {error.strerror or error}") from error


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f"{target.name}.{kind}")
