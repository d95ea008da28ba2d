"""Keys in one JSON file, readable by its owner alone.

It is replaced whole: written beside the old one, put on the disk, and renamed over it. So whoever reads it sees the old
file or the new one, also if the machine loses power in between.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import msgspec

from llmactors.access.keys.record import KeyRecord
from llmactors.access.keys.store import Change, KeyStoreError, in_order, no_such_key
from llmactors.errors import ConfigError

_VERSION = 1

Signature = tuple[int, int, int, int]
"""What differs between two states of a file: its inode, size, and both of its times of change."""


@attrs.frozen(kw_only=True)
class _Contents:
    version: int = _VERSION
    keys: tuple[KeyRecord, ...] = ()


class FileKeyStore:
    """A `KeyStore`. The file appears with the first key."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __repr__(self) -> str:
        return f"<FileKeyStore {self._path}>"

    async def records(self) -> Sequence[KeyRecord]:
        """All of them, the oldest first."""
        return in_order(read_keys(self._path))

    async def add(self, record: KeyRecord) -> None:
        """A new one."""
        with _locked(self._path):
            known = read_keys(self._path) if self._path.exists() else ()
            write_keys(self._path, [*known, record])

    async def change(self, key_id: str, change: Change) -> KeyRecord:
        """Puts what `change` makes of the record in its place."""
        with _locked(self._path):
            records = {record.id: record for record in read_keys(self._path)}
            if key_id not in records:
                raise no_such_key(key_id)
            records[key_id] = change(records[key_id])
            write_keys(self._path, list(records.values()))
            return records[key_id]


def read_keys(path: Path) -> tuple[KeyRecord, ...]:
    """Raises `KeyStoreError`."""
    try:
        contents = msgspec.json.decode(_bytes_of(path), type=_Contents)
    except FileNotFoundError as error:
        raise KeyStoreError(
            f"there is no key file {path}; `python -m llmactors keys create --keys {path} --tenant NAME` makes one"
        ) from error
    except OSError as error:
        raise KeyStoreError(f"cannot read the key file {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ConfigError) as error:
        # `from None`, as an operator is told the innermost error, and what is wrong in a record names no file.
        raise KeyStoreError(f"{path} is not a key file: {error}") from None
    if contents.version != _VERSION:
        raise KeyStoreError(f"the key file {path} is of version {contents.version}; this is version {_VERSION}")
    if len({record.id for record in contents.keys}) != len(contents.keys):
        raise KeyStoreError(f"{path} is not a key file: an id stands in it twice")
    return contents.keys


def _bytes_of(path: Path) -> bytes:
    """Without waiting: a gateway reads the file between two tokens, and a pipe may have nobody at its other end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise KeyStoreError(f"the key file {path} is no file, but a directory, a pipe or a device")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def write_keys(path: Path, records: Sequence[KeyRecord]) -> None:
    """Replaces the file. Raises `KeyStoreError`, and then the old one is still there."""
    path = path.resolve()  # a link stays a link
    data = _format(_Contents(keys=tuple(in_order(records))))
    try:
        # One name for all writers, of whom there is one at a time: what a killed one left is cleared away here.
        beside = path.with_name(f".{path.name}.new")
        beside.unlink(missing_ok=True)
        # Its mode is 0600 from the beginning, whatever the umask.
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        with _directory(path) as directory:
            os.fsync(directory)
    except OSError as error:
        raise KeyStoreError(f"cannot write the key file {path}: {error.strerror}") from error


def _format(contents: _Contents) -> bytes:
    return msgspec.json.format(msgspec.json.encode(contents, order="deterministic"), indent=2) + b"\n"


def signature_of(path: Path) -> Signature | None:
    """None where it cannot be told."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time. The lock is the directory's, because the file is another one after each write."""
    path = path.resolve()
    try:
        with _directory(path) as directory:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise KeyStoreError(f"cannot lock the directory of the key file {path}: {error.strerror}") from error


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[int]:
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
