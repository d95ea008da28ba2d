"""The records of all nodes in Redis.

A record is a hash with a time to live, so the record of a node that does not renew it expires. Redis itself compares
incarnations before it writes or deletes a record. So a node that was frozen, and whose name another node took since,
cannot overwrite the new record, and learns that its name was taken.
"""

from typing import Any

import attrs
import msgspec
import structlog

from llmactors.cluster.node_record import TTL_S, NodeRecord, Role
from llmactors.redislink.call import Call
from llmactors.redislink.names import RedisNames

log = structlog.get_logger("llmactors.cluster")

_DRAIN_S = 30.0
"""The time that a request to drain stays in Redis for its node, in seconds."""

# The flag lets nodes renew their records while Redis has reached its `maxmemory`. Nothing is written to the append-only
# file: a record means nothing after a restart of Redis, and each node renews its record every second.
_PUT = """#!lua flags=allow-oom
redis.set_repl(redis.REPL_NONE)
local holder = redis.call('HGET', KEYS[1], 'incarnation')
if holder and holder ~= ARGV[1] and holder ~= ARGV[2] then
  return {redis.call('HGET', KEYS[1], 'record') or '', false}
end
redis.call('HSET', KEYS[1], 'incarnation', ARGV[1], 'role', ARGV[3], 'record', ARGV[4], 'tree', ARGV[7])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. now)
redis.call('ZADD', KEYS[2], now + ARGV[5], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return {false, redis.call('GET', KEYS[3])}
"""
_REMOVE = """#!lua flags=allow-oom
if redis.call('HGET', KEYS[1], 'incarnation') ~= ARGV[1] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[3])
return redis.call('DEL', KEYS[1])
"""
_DRAIN = """#!lua flags=allow-oom
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return redis.call('PUBLISH', KEYS[1], ARGV[1])
"""


@attrs.frozen
class PutResult:
    """The result of a `put`."""

    holder: NodeRecord | None = None
    """The record of another incarnation that has the name; nothing was written then. Else None."""
    drain: bool = False
    """Whether an operator asked this incarnation to drain."""


class NodeStore:
    """Reads and writes the records. Every method raises `errors.Unavailable` while Redis is away."""

    def __init__(self, call: Call, namespace: str) -> None:
        self._call = call
        self._names = RedisNames(namespace)

    def __repr__(self) -> str:
        return f"<NodeStore of {self._names.namespace}>"

    def drain_channel(self, name: str) -> str:
        """The channel that announces a drain of the node `name`. The node reads the result of its next `put` then."""
        return self._names.drain(name)

    async def put(self, record: NodeRecord, tree: object = None, *, replaces: str = "") -> PutResult:
        """Writes the record, unless another incarnation than the record's own, or than `replaces`, has the name.

        `tree` is the snapshot of the node's supervision tree, as in `/v1/tree`.
        """
        ours = (record.incarnation, replaces, record.role.value, record.encode())
        answer = await self._call(
            *("EVAL", _PUT, 3, self._names.node(record.name), self._names.nodes, self.drain_channel(record.name)),
            *(*ours, round(TTL_S * 1000), record.name, msgspec.json.encode(tree)),
        )
        holder, drain = answer
        if holder is not None:
            return PutResult(holder=NodeRecord.decode(holder))
        return PutResult(drain=drain is not None and bytes(drain).decode() == record.incarnation)

    async def remove(self, record: NodeRecord) -> None:
        """Deletes the record, if the record in Redis is still of this incarnation."""
        await self._call(
            *("EVAL", _REMOVE, 3, self._names.node(record.name), self._names.nodes, self.drain_channel(record.name)),
            *(record.incarnation, record.name),
        )

    async def get(self, name: str) -> NodeRecord | None:
        """The record of the node `name`; None if no such node is running."""
        data = await self._call("HGET", self._names.node(name), "record")
        return None if data is None else _decode(name, data)

    async def tree(self, name: str) -> Any:
        """The node's supervision tree, as in `/v1/tree`; None if no such node is running."""
        data = await self._call("HGET", self._names.node(name), "tree")
        return None if data is None else msgspec.json.decode(data)

    async def records(self, role: Role | None = None) -> list[NodeRecord]:
        """The records of all running nodes, sorted by name; only those of one role if `role` is given."""
        names = [bytes(name).decode() for name in await self._call("ZRANGE", self._names.nodes, 0, -1)]
        found = []
        for name in sorted(names):
            if role is not None and await self._call("HGET", self._names.node(name), "role") != role.value.encode():
                continue
            if (record := await self.get(name)) is not None:
                found.append(record)
        return found

    async def ask_to_drain(self, record: NodeRecord) -> None:
        """Asks this incarnation to drain and end. The node learns of this at once, or at its next renewal."""
        await self._call("EVAL", _DRAIN, 1, self.drain_channel(record.name), record.incarnation, round(_DRAIN_S * 1000))


def _decode(name: str, data: bytes) -> NodeRecord | None:
    try:
        return NodeRecord.decode(data)
    except msgspec.DecodeError as error:
        # A node of another version wrote the record, which must not crash this node.
        log.warning("a node's record is ignored because it cannot be read", node=name, error=str(error))
        return None
