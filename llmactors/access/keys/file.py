"""A key store in one JSON file, which only its owner can read.

A change writes a new file beside the old one, flushes it to the disk, and renames it over the old one. So a reader sees
either the old file or the new one, also after a power failure.
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
"""Differs between two states of a file: the inode, the size, and both times of change."""


@attrs.frozen(kw_only=True)
class _Contents:
    version: int = _VERSION
    keys: tuple[KeyRecord, ...] = ()


class FileKeyStore:
    """A `KeyStore` in a file. The first key creates the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __repr__(self) -> str:
        return f"<FileKeyStore {self._path}>"

    async def records(self) -> Sequence[KeyRecord]:
        """All records, oldest first."""
        return in_order(read_keys(self._path))

    async def add(self, record: KeyRecord) -> None:
        """Adds a record."""
        with _locked(self._path):
            known = read_keys(self._path) if self._path.exists() else ()
            write_keys(self._path, [*known, record])

    async def change(self, key_id: str, change: Change) -> KeyRecord:
        """Replaces a record by the result of `change`, and returns the new record."""
        with _locked(self._path):
            records = {record.id: record for record in read_keys(self._path)}
            if key_id not in records:
                raise no_such_key(key_id)
            records[key_id] = change(records[key_id])
            write_keys(self._path, list(records.values()))
            return records[key_id]


def read_keys(path: Path) -> tuple[KeyRecord, ...]:
    """Reads all records. Raises `KeyStoreError`."""
    try:
        contents = msgspec.json.decode(_bytes_of(path), type=_Contents)
    except FileNotFoundError as error:
        raise KeyStoreError(
            f"there is no key file {path}; `python -m llmactors keys create --keys {path} --tenant NAME` makes one"
        ) from error
    except OSError as error:
        raise KeyStoreError(f"cannot read the key file {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ConfigError) as error:
        # `from None`, because the command line shows the innermost error, and only this one names the file.
        raise KeyStoreError(f"{path} is not a key file: {error}") from None
    if contents.version != _VERSION:
        raise KeyStoreError(
            f"the key file {path} has version {contents.version}, and this program reads version {_VERSION}"
        )
    if len({record.id for record in contents.keys}) != len(contents.keys):
        raise KeyStoreError(f"{path} is not a key file: two records have the same id")
    return contents.keys


def _bytes_of(path: Path) -> bytes:
    """Reads a file without waiting, because a pipe would block the event loop until somebody writes to it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise KeyStoreError(f"the key file {path} is not a file, but a directory, a pipe or a device")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def write_keys(path: Path, records: Sequence[KeyRecord]) -> None:
    """Replaces the file. Raises `KeyStoreError`, and then the old file is unchanged."""
    path = path.resolve()  # a symbolic link stays, and the file that it names is replaced
    data = _format(_Contents(keys=tuple(in_order(records))))
    try:
        # There is one writer at a time, so a file of this name is left over from a writer that was killed.
        beside = path.with_name(f".{path.name}.new")
        beside.unlink(missing_ok=True)
        # The mode is 0600 from the start, regardless of the umask.
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
    """The signature of the file; None if the file cannot be read."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lets one writer in at a time. The lock is on the directory, because each write replaces the file."""
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
