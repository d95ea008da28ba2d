"""Finds the keys that a run left in Redis, with redis-py instead of the code under test."""

from collections.abc import Iterable
from fnmatch import fnmatch

import redis
import trio

from llmactors.redislink.names import LedgerKey, RedisNames

_ANY = RedisNames("*")

NODE_RECORDS = (
    _ANY.node("*"),
    _ANY.nodes,
    _ANY.known_models,
    _ANY.served_models,
    _ANY.loading("*"),
    _ANY.ledger(LedgerKey.GATEWAYS),
    _ANY.ledger(LedgerKey.WORKER, "*"),
    _ANY.ledger(LedgerKey.LIVE, "*"),
    _ANY.ledger(LedgerKey.WORKERS),
    _ANY.ledger(LedgerKey.DEAD_WORKERS),
    _ANY.ledger(LedgerKey.COUNTERS),
)
"""Patterns of the keys that a cluster has while its nodes run, however many requests were served."""

TOMBSTONES = (_ANY.ledger(LedgerKey.GONE, "*"),)
"""Patterns of the keys that stay for a time after the log of a request is deleted."""

USAGE = (_ANY.ledger(LedgerKey.USAGE_RECORDS), _ANY.ledger(LedgerKey.USAGE_SUMS, "*", "*"))
"""Patterns of the keys that tell for days what was used, and that are bounded in number and size."""

LEFT_AT_REST = (
    *NODE_RECORDS,
    *TOMBSTONES,
    *USAGE,
    _ANY.ledger(LedgerKey.DEAD_LETTERS),
    _ANY.ledger(LedgerKey.STOPS, "*"),
    _ANY.ledger(LedgerKey.LOST, "*"),
)
"""Patterns of the keys that may be in Redis once every request has ended. All but the node records expire."""


class RedisKeys:
    """The keys that are in Redis now and were not there when this object was made."""

    def __init__(self, client: "redis.Redis", *, allowed: Iterable[str] = NODE_RECORDS + TOMBSTONES + USAGE) -> None:
        self._client = client
        self._allowed = tuple(allowed)
        self._base = self._keys()

    def __repr__(self) -> str:
        return f"<RedisKeys above {len(self._base)}>"

    def keys_left(self) -> list[str]:
        """New keys that match no pattern of `allowed`."""
        return self._but_for(self._allowed)

    def keys_without_ttl(self) -> list[str]:
        """New keys that never expire, except the records of nodes."""
        return [key for key in self._but_for(NODE_RECORDS) if self._client.ttl(key) == -1]

    async def wait_none_left(self, *, within_s: float) -> list[str]:
        """Waits until no new key is left, or `within_s` has passed; returns the keys that are left."""
        with trio.move_on_after(within_s):
            while await trio.to_thread.run_sync(self.keys_left):  # noqa: ASYNC110 - another process's state
                await trio.sleep(0.2)
        return await trio.to_thread.run_sync(self.keys_left)

    def _but_for(self, patterns: Iterable[str]) -> list[str]:
        found = self._keys() - self._base
        return sorted(key for key in found if not any(fnmatch(key, pattern) for pattern in patterns))

    def _keys(self) -> set[str]:
        return {key.decode("utf-8", "replace") for key in self._client.scan_iter(count=1000)}
