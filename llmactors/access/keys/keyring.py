"""A gateway's copy of the key records, kept up to date.

If the store cannot be read, the copy stays valid for `STALE_S` seconds. After that every caller is refused, because a
key may have been revoked meanwhile. A store without any key refuses every caller as well.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import structlog
import trio

from llmactors.access.keys.file import Signature, read_keys, signature_of
from llmactors.access.keys.record import KeyRecord
from llmactors.access.keys.redis import RedisKeyStore
from llmactors.access.keys.store import KeyStoreError, in_order
from llmactors.errors import LlmactorsError, Unavailable
from llmactors.redislink.errors import reason_of

log = structlog.get_logger("llmactors.access.keys")

STALE_S = 60.0
READ_EVERY_S = 0.5
_READ_S = 3.0


class Keyring:
    """The records as they were read last. Subclasses read them from a store."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: dict[str, KeyRecord] = {}
        self._read_at: float | None = None
        self._changed = trio.Event()
        self._problem = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._records)} keys{f', {self._problem}' if self._problem else ''}>"

    def find(self, key_id: str) -> KeyRecord | None:
        """The record of a key; None if no such key exists. Raises `Unavailable` if the copy is too old."""
        if self._read_at is None or self._clock() - self._read_at > STALE_S:
            raise Unavailable("the API keys cannot be read at the moment", retry_after_s=1.0)
        return self._records.get(key_id)

    def records(self) -> list[KeyRecord]:
        """All records as they were read last, oldest first."""
        return in_order([*self._records.values()])

    def known(self, key_id: str) -> KeyRecord | None:
        """As `find`, but the copy may be of any age."""
        return self._records.get(key_id)

    async def wait_changed(self) -> None:
        """Returns at the next change of any record."""
        await self._changed.wait()

    async def refresh(self) -> None:
        """Reads the store if it has changed. Raises `LlmactorsError` if the store cannot be read."""
        raise NotImplementedError

    async def run(self) -> None:
        """Reads the store again and again. A store that cannot be read is logged and read again later."""
        while True:
            await self._pause()
            await self.refresh_or_log()

    async def refresh_or_log(self) -> None:
        """As `refresh`, but an error is logged once instead of raised."""
        try:
            await self.refresh()
        except LlmactorsError as error:
            self.note_problem(error)

    def note_problem(self, error: LlmactorsError) -> None:
        """Logs that the store could not be read, if the reason is a new one."""
        if self._problem != (reason := reason_of(error)):
            self._problem = reason
            log.error(
                "the API keys cannot be read; the last ones stay valid for a while",
                error=reason,
                valid_s=STALE_S,
            )

    def note_unchanged(self) -> None:
        """Records that the store was read now and has not changed."""
        self._read_at = self._clock()
        if self._problem:
            log.info("the API keys can be read again")
            self._problem = ""

    def put(self, records: Iterable[KeyRecord]) -> None:
        """Takes over the records that were read."""
        first = self._read_at is None
        self.note_unchanged()
        found = {record.id: record for record in records}
        if not found and (first or self._records):
            log.warning("the key store holds no API key, so every caller is refused")
        if found != self._records:
            self._records = found
            self._changed.set()
            self._changed = trio.Event()

    async def _pause(self) -> None:
        await trio.sleep(READ_EVERY_S)


class FileKeyring(Keyring):
    """The keys of a file. `find` reads the file if it has changed, so the next request sees that a key was revoked.

    Raises:
        KeyStoreError: The file cannot be read at the start.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        read_keys(path)  # an error in the file is reported before anything else starts
        self._path = path
        self._signature: Signature | None = None

    def find(self, key_id: str) -> KeyRecord | None:
        """The record of a key as the file has it now."""
        try:
            self._read_if_changed()
        except KeyStoreError as error:
            self.note_problem(error)
        return super().find(key_id)

    async def refresh(self) -> None:
        """Reads the file if it has changed."""
        self._read_if_changed()

    def _read_if_changed(self) -> None:
        signature = signature_of(self._path)
        if signature is not None and signature == self._signature:
            self.note_unchanged()
            return
        # The signature was read before the file, so a change in between is seen at the next read.
        self.put(read_keys(self._path))
        self._signature = signature


class RedisKeyring(Keyring):
    """The keys of a cluster. Changes are announced and polled as well, because an announcement may be lost."""

    def __init__(self, store: RedisKeyStore) -> None:
        super().__init__()
        self._store = store
        self._mark: bytes | None = None
        self._announced = trio.Event()

    @property
    def channel(self) -> str:
        """The channel to subscribe to, for `on_push`."""
        return self._store.channel

    def on_push(self, push: list[Any]) -> bool:
        """Handles a push of the Redis link. Returns whether the push was an announcement of a change."""
        if push[:2] != [b"message", self.channel.encode()]:
            return False
        self._announced.set()
        return True

    async def refresh(self) -> None:
        """Reads all keys if any of them has changed."""
        answered = False
        with trio.move_on_after(_READ_S):
            mark = await self._store.mark()
            if self._mark is not None and mark == self._mark:
                self.note_unchanged()
            else:
                self._mark, records = await self._store.read()
                self.put(records)
            answered = True
        if not answered:
            raise Unavailable(f"Redis did not answer within {_READ_S:g} s")

    async def _pause(self) -> None:
        with trio.move_on_after(READ_EVERY_S):
            await self._announced.wait()
        self._announced = trio.Event()
