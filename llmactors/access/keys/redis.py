"""Keys in Redis: one hash for each cluster, from a key's id to its record.

A field beside them is a mark that every write sets anew, at random: who has read all of them under a mark need not
read them again while it stands, also where Redis has lost writes and others came in their place.
"""

import secrets
from collections.abc import Sequence
from typing import Any

from llmactors.access.keys.record import KeyRecord, decode_record
from llmactors.access.keys.store import Change, KeyStoreError, in_order, no_such_key
from llmactors.errors import ConfigError
from llmactors.redislink import Call
from llmactors.redislink.names import RedisNames

_MARK = "@mark"
_TRIES = 20

# With a shebang, so that a key can be revoked also while Redis is at its `maxmemory`.
_PUT = """#!lua flags=allow-oom
local now = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if now ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3], ARGV[4], ARGV[5])
redis.call('PUBLISH', KEYS[2], ARGV[5])
return 1
"""


class RedisKeyStore:
    """A `KeyStore`."""

    def __init__(self, call: Call, namespace: str) -> None:
        self._call = call
        self._hash = RedisNames(namespace).api_keys
        self.channel = RedisNames(namespace).api_keys_changed
        """Where each change is announced. A hint: the truth is the mark."""

    def __repr__(self) -> str:
        return f"<RedisKeyStore {self._hash}>"

    async def records(self) -> Sequence[KeyRecord]:
        """All of them, the oldest first."""
        _, records = await self.read()
        return in_order(records)

    async def read(self) -> tuple[bytes, list[KeyRecord]]:
        """The mark and the records that belong to it."""
        fields: dict[bytes, bytes] = {bytes(name): bytes(value) for name, value in (await self._fields()).items()}
        mark = fields.pop(_MARK.encode(), b"")
        return mark, [_decode(data) for data in fields.values()]

    async def mark(self) -> bytes:
        """Empty where there was never a key."""
        return bytes(await self._call("HGET", self._hash, _MARK) or b"")

    async def add(self, record: KeyRecord) -> None:
        """A new one."""
        if not await self._put(record, b""):
            raise KeyStoreError(f"there is a key {record.id} already")

    async def change(self, key_id: str, change: Change) -> KeyRecord:
        """Puts what `change` makes of the record in its place."""
        for _ in range(_TRIES):
            before = await self._call("HGET", self._hash, key_id)
            if before is None or key_id == _MARK:
                raise no_such_key(key_id)
            record = change(_decode(bytes(before)))
            if await self._put(record, bytes(before)):
                return record
        raise KeyStoreError(f"others go on changing key {key_id}; try again")

    async def _fields(self) -> dict[Any, Any]:
        return dict(await self._call("HGETALL", self._hash))

    async def _put(self, record: KeyRecord, before: bytes) -> bool:
        """False where it is not what it was `before`, and then nothing was written."""
        mark = secrets.token_hex(8)
        arguments = (record.id, before, record.encode(), _MARK, mark)
        return bool(await self._call("EVAL", _PUT, 2, self._hash, self.channel, *arguments))


def _decode(data: bytes) -> KeyRecord:
    try:
        return decode_record(data)
    except ConfigError as error:
        # `from None`, as an operator is told the innermost error.
        raise KeyStoreError(f"Redis holds a key that this version cannot read: {error.message}") from None
