"""A keyring has the current records, or for a while the last ones; without records it refuses every key."""

from pathlib import Path

import pytest
import trio
import trio.testing

from llmactors.access.keys.file import FileKeyStore, write_keys
from llmactors.access.keys.keyring import STALE_S, FileKeyring
from llmactors.access.keys.record import KeyRecord
from llmactors.access.keys.store import KeyStoreError
from llmactors.access.keys.text import new_key
from llmactors.errors import Unavailable


def record() -> KeyRecord:
    key = new_key()
    return KeyRecord(id=key.id, tenant="acme", hash=key.digest, created=1.0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


async def test_next_read_sees_a_change_of_the_key_file(path: Path) -> None:
    first, second = record(), record()
    write_keys(path, [first])
    keyring = FileKeyring(path)
    assert keyring.find(first.id) == first
    assert keyring.find(second.id) is None
    for number in range(20):
        await FileKeyStore(path).add(each := record())
        assert keyring.find(each.id) == each, number
    revoked = await FileKeyStore(path).change(first.id, lambda found: found.revoke(7.0))
    assert keyring.find(first.id) == revoked


def test_keyring_without_its_file_does_not_start(path: Path) -> None:
    with pytest.raises(KeyStoreError, match="there is no key file"):
        FileKeyring(path)


@pytest.mark.parametrize("how", ["gone", "broken"])
def test_unreadable_key_file_admits_nobody_after_a_minute(path: Path, how: str) -> None:
    known = record()
    write_keys(path, [known])
    clock = Clock()
    keyring = FileKeyring(path, clock)
    assert keyring.find(known.id) == known
    if how == "gone":
        path.unlink()
    else:
        path.write_text('{"version": 1, "keys": [')
    clock.now = STALE_S - 1
    assert keyring.find(known.id) == known
    clock.now = STALE_S + 1
    with pytest.raises(Unavailable, match="cannot be read"):
        keyring.find(known.id)
    with pytest.raises(Unavailable):
        keyring.find("somebody")
    write_keys(path, [known])
    assert keyring.find(known.id) == known


def test_empty_key_store_knows_no_key(path: Path) -> None:
    write_keys(path, [])
    assert FileKeyring(path).find("anybody") is None


async def test_wait_changed_returns_only_after_a_change(path: Path) -> None:
    write_keys(path, [known := record()])
    keyring = FileKeyring(path)
    await keyring.refresh()
    heard = trio.Event()

    async def wait() -> None:
        await keyring.wait_changed()
        heard.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        write_keys(path, [known])  # no change
        await keyring.refresh()
        await trio.testing.wait_all_tasks_blocked()
        assert not heard.is_set()
        write_keys(path, [known.revoke(2.0)])
        await keyring.refresh()
        with trio.fail_after(1):
            await heard.wait()
