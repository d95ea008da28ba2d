"""A key store in Redis: one hash for each cluster, from a key's id to its record.

One more field holds a mark, which every write replaces by a new random one. While the mark is the same, no record has
changed since the last read, even if Redis has lost writes.
"""

import secrets
from collections.abc import Sequence
from typing import Any

from llmactors.access.keys.record import KeyRecord, decode_record
from llmactors.access.keys.store import Change, KeyStoreError, in_order, no_such_key
from llmactors.errors import ConfigError
from llmactors.redislink.call import Call
from llmactors.redislink.names import RedisNames

_MARK = "@mark"
_TRIES = 20

# The flag lets a key be revoked while Redis has reached its `maxmemory`.
_PUT = """#!lua flags=allow-oom
local now = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if now ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3], ARGV[4], ARGV[5])
redis.call('PUBLISH', KEYS[2], ARGV[5])
return 1
"""


class RedisKeyStore:
    """A `KeyStore` in Redis."""

    def __init__(self, call: Call, namespace: str) -> None:
        self._call = call
        self._hash = RedisNames(namespace).api_keys
        self.channel = RedisNames(namespace).api_keys_changed
        """The channel that announces each change. An announcement may be lost, and then the mark shows the change."""

    def __repr__(self) -> str:
        return f"<RedisKeyStore {self._hash}>"

    async def records(self) -> Sequence[KeyRecord]:
        """All records, oldest first."""
        _, records = await self.read()
        return in_order(records)

    async def read(self) -> tuple[bytes, list[KeyRecord]]:
        """The mark, and the records that were read with it."""
        fields: dict[bytes, bytes] = {bytes(name): bytes(value) for name, value in (await self._fields()).items()}
        mark = fields.pop(_MARK.encode(), b"")
        return mark, [_decode(data) for data in fields.values()]

    async def mark(self) -> bytes:
        """The mark; empty if the store never had a key."""
        return bytes(await self._call("HGET", self._hash, _MARK) or b"")

    async def add(self, record: KeyRecord) -> None:
        """Adds a record."""
        if not await self._put(record, b""):
            raise KeyStoreError(f"the key {record.id} exists already")

    async def change(self, key_id: str, change: Change) -> KeyRecord:
        """Replaces a record by the result of `change`, and returns the new record."""
        for _ in range(_TRIES):
            before = await self._call("HGET", self._hash, key_id)
            if before is None or key_id == _MARK:
                raise no_such_key(key_id)
            record = change(_decode(bytes(before)))
            if await self._put(record, bytes(before)):
                return record
        raise KeyStoreError(f"key {key_id} was changed by others {_TRIES} times in a row; try again")

    async def _fields(self) -> dict[Any, Any]:
        return dict(await self._call("HGETALL", self._hash))

    async def _put(self, record: KeyRecord, before: bytes) -> bool:
        """Writes the record if the stored one is still `before`. Returns whether the record was written."""
        mark = secrets.token_hex(8)
        arguments = (record.id, before, record.encode(), _MARK, mark)
        return bool(await self._call("EVAL", _PUT, 2, self._hash, self.channel, *arguments))


def _decode(data: bytes) -> KeyRecord:
    try:
        return decode_record(data)
    except ConfigError as error:
        # `from None`, because the command line shows the innermost error.
        raise KeyStoreError(f"Redis holds a key that this version cannot read: {error.message}") from None
