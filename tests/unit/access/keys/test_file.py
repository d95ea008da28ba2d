"""A key file is written as a whole or not at all, by one writer at a time, and is readable by its owner only."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from llmactors.access.keys.file import FileKeyStore, read_keys, write_keys
from llmactors.access.keys.record import KeyRecord
from llmactors.access.keys.store import KeyStoreError
from llmactors.access.keys.text import new_key
from llmactors.errors import NotFound


def record(tenant: str = "acme", created: float = 1.0) -> KeyRecord:
    key = new_key()
    return KeyRecord(id=key.id, tenant=tenant, hash=key.digest, created=created)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


async def test_key_file_keeps_all_changes_oldest_key_first(path: Path) -> None:
    store = FileKeyStore(path)
    late, early = record(created=2.0), record(created=1.0)
    await store.add(late)
    await store.add(early)
    changed = await store.change(late.id, lambda found: found.revoke(5.0))

    assert await FileKeyStore(path).records() == [early, changed]
    assert changed == attrs.evolve(late, revoked=5.0)


async def test_key_file_is_readable_by_its_owner_only(path: Path) -> None:
    before = os.umask(0)
    try:
        await FileKeyStore(path).add(record())
        await FileKeyStore(path).add(record())
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116 - a local file


async def test_link_to_the_key_file_stays_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(path)
    await FileKeyStore(link).add(record())
    assert link.is_symlink()
    assert len(read_keys(path)) == 1


async def test_missing_file_or_key_is_an_error(path: Path) -> None:
    with pytest.raises(KeyStoreError, match=r"there is no key file .*keys create"):
        await FileKeyStore(path).records()
    with pytest.raises(KeyStoreError, match="cannot lock"):
        await FileKeyStore(path / "deeper").add(record())
    await FileKeyStore(path).add(record())
    with pytest.raises(NotFound, match="'nope'"):
        await FileKeyStore(path).change("nope", lambda found: found)


FULL = [record("acme"), record("other")]


@given(cut=st.floats(0, 1))
def test_truncated_key_file_is_an_error(tmp_path_factory: pytest.TempPathFactory, cut: float) -> None:
    path = tmp_path_factory.mktemp("half") / "keys.json"
    write_keys(path, FULL)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * (len(whole) - 3))])
    with pytest.raises(KeyStoreError, match="is not a key file"):
        read_keys(path)


@pytest.mark.parametrize("text", ['{"version": 2}', '{"version": 1, "keys": [{}]}', "[]", '{"version": 1, "keys": 5}'])
def test_file_that_is_no_key_file_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(KeyStoreError, match=str(path)):
        read_keys(path)


def test_key_file_with_a_double_id_is_refused(path: Path) -> None:
    write_keys(path, [FULL[0], FULL[0]])
    with pytest.raises(KeyStoreError, match="two records have the same id"):
        read_keys(path)


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_killed_writer_leaves_the_old_file(path: Path, step: str) -> None:
    """The writer is killed before the new file is on the disk, and before the rename."""
    write_keys(path, FULL)
    module, _, name = step.rpartition(".")
    program = f"""
import os, pathlib, trio
from llmactors.access.keys.file import FileKeyStore
setattr({module}, {name!r}, lambda *args: os.kill(os.getpid(), 9))
trio.run(FileKeyStore(pathlib.Path({str(path)!r})).change, {FULL[0].id!r}, lambda record: record.revoke(9.0))
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=30)
    assert done.returncode == -9
    assert sorted(read_keys(path), key=lambda each: each.id) == sorted(FULL, key=lambda each: each.id)
    trio.run(FileKeyStore(path).change, FULL[0].id, lambda found: found.revoke(9.0))
    assert sum(each.revoked is not None for each in read_keys(path)) == 1
    assert list(path.parent.iterdir()) == [path]


def test_failed_write_leaves_no_temporary_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_keys(path, FULL)

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(KeyStoreError, match=r"cannot write the key file .*No space left"):
        write_keys(path, [])
    assert len(read_keys(path)) == 2
    assert list(path.parent.iterdir()) == [path]


def test_concurrent_writers_lose_no_key(path: Path) -> None:
    write_keys(path, [record("first")])
    done = threading.Event()
    problems: list[Exception] = []

    def write(number: int) -> None:
        for count in range(10):
            trio.run(FileKeyStore(path).add, record(f"t{number}.{count}"))

    def read() -> None:
        seen = 0
        while not done.is_set():
            try:
                now = len(read_keys(path))
                assert now >= seen
                seen = now
            except Exception as error:  # noqa: BLE001 - the error is reported below
                problems.append(error)
                return

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    reader.start()
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join(30)
    done.set()
    reader.join(30)
    assert not problems
    tenants = {each.tenant for each in read_keys(path)}
    assert tenants == {"first", *(f"t{number}.{count}" for number in range(4) for count in range(10))}


def test_pipe_as_key_file_is_refused_without_waiting(path: Path) -> None:
    """A gateway reads the file on its event loop, so a pipe in place of the file must not block the read."""
    os.mkfifo(path)
    with pytest.raises(KeyStoreError, match="is not a file, but a directory, a pipe or a device"):
        read_keys(path)


def test_deeply_nested_json_is_refused(path: Path) -> None:
    path.write_bytes(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    with pytest.raises(KeyStoreError, match="is not a key file"):
        read_keys(path)
