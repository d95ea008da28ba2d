"""What a gateway knows of the keys.

A store that cannot be read does not stop a gateway at once: what was read last holds for `STALE_S`. After that nobody
is let in, because a key that was revoked meanwhile would be. A store without any key lets nobody in either.
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
from llmactors.access.keys.store import KeyStoreError
from llmactors.errors import LlmactorsError, Unavailable

log = structlog.get_logger("llmactors.access.keys")

STALE_S = 60.0
LOOK_EVERY_S = 0.5
_LOOK_S = 3.0


class Keyring:
    """The records as they were read last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: dict[str, KeyRecord] = {}
        self._read_at: float | None = None
        self._changed = trio.Event()
        self._problem = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._records)} keys{f', {self._problem}' if self._problem else ''}>"

    def find(self, key_id: str) -> KeyRecord | None:
        """None where there is no such key. Raises `Unavailable` where nobody can tell any more."""
        if self._read_at is None or self._clock() - self._read_at > STALE_S:
            raise Unavailable("the API keys cannot be read at the moment", retry_after_s=1.0)
        return self._records.get(key_id)

    def known(self, key_id: str) -> KeyRecord | None:
        """As `find`, however long ago it was read."""
        return self._records.get(key_id)

    async def wait_changed(self) -> None:
        """Returns once any record is another one."""
        await self._changed.wait()

    async def look(self) -> None:
        """Reads the store now, if it is another one than it was. Raises what makes that impossible."""
        raise NotImplementedError

    async def run(self) -> None:
        """Looks again and again. Raises nothing for a store that cannot be read."""
        while True:
            await self._pause()
            await self.look_again()

    async def look_again(self) -> None:
        """As `look`; what makes it impossible is told in the log, once."""
        try:
            await self.look()
        except LlmactorsError as error:
            self.note(error)

    def note(self, error: LlmactorsError) -> None:
        """The store could not be read."""
        if self._problem != error.message:
            self._problem = error.message
            log.error("cannot read the API keys", error=error.message, good_for_s=STALE_S)

    def as_before(self) -> None:
        """The store was looked at, and nothing has changed."""
        self._read_at = self._clock()
        if self._problem:
            log.info("the API keys can be read again")
            self._problem = ""

    def put(self, records: Iterable[KeyRecord]) -> None:
        """The store was read."""
        first = self._read_at is None
        self.as_before()
        found = {record.id: record for record in records}
        if not found and (first or self._records):
            log.warning("there is no API key in the store: every caller is refused")
        if found != self._records:
            self._records = found
            self._changed.set()
            self._changed = trio.Event()

    async def _pause(self) -> None:
        await trio.sleep(LOOK_EVERY_S)


class FileKeyring(Keyring):
    """Of a file, which is looked at with every `find`: once a key is revoked, the next request finds it so.

    Raises:
        KeyStoreError: The file cannot be read at the beginning.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        read_keys(path)  # what is wrong with it is told before anything else starts
        self._path = path
        self._signature: Signature | None = None

    def find(self, key_id: str) -> KeyRecord | None:
        """As it stands in the file now."""
        try:
            self._look()
        except KeyStoreError as error:
            self.note(error)
        return super().find(key_id)

    async def look(self) -> None:
        """Reads the file now, if it is another one than it was."""
        self._look()

    def _look(self) -> None:
        signature = signature_of(self._path)
        if signature is not None and signature == self._signature:
            self.as_before()
            return
        # Read after its signature was: what is written in between is seen with the next look.
        self.put(read_keys(self._path))
        self._signature = signature


class RedisKeyring(Keyring):
    """Of a cluster, whose changes are announced; and looked for all the same, because an announcement may be lost."""

    def __init__(self, store: RedisKeyStore) -> None:
        super().__init__()
        self._store = store
        self._mark: bytes | None = None
        self._announced = trio.Event()

    @property
    def channel(self) -> str:
        """What to subscribe to, for `on_push`."""
        return self._store.channel

    def on_push(self, push: list[Any]) -> bool:
        """For the link. Whether it was an announcement."""
        if push[:2] != [b"message", self.channel.encode()]:
            return False
        self._announced.set()
        return True

    async def look(self) -> None:
        """Reads all keys, if any of them has changed."""
        answered = False
        with trio.move_on_after(_LOOK_S):
            mark = await self._store.mark()
            if self._mark is not None and mark == self._mark:
                self.as_before()
            else:
                self._mark, records = await self._store.read()
                self.put(records)
            answered = True
        if not answered:
            raise Unavailable("Redis does not answer")

    async def _pause(self) -> None:
        with trio.move_on_after(LOOK_EVERY_S):
            await self._announced.wait()
        self._announced = trio.Event()
