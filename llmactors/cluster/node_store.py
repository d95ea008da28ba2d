"""The records of all nodes in Redis.

A record is a hash with a time to live, so the record of a node that does not renew it expires. Redis itself compares
incarnations before it writes or deletes a record. So a node that was frozen, and whose name another node took since,
cannot overwrite the new record, and learns that its name was taken.
"""

from typing import Any

import attrs
import msgspec
import structlog

from llmactors.cluster.cordon import Cordon
from llmactors.cluster.node_record import TTL_S, NodeRecord, Role
from llmactors.redislink.call import Call
from llmactors.redislink.names import RedisNames

log = structlog.get_logger("llmactors.cluster")

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
return redis.call('DEL', KEYS[1])
"""
_CORDON = """#!lua flags=allow-oom
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local for_s = tonumber(ARGV[1])
local cordon = cjson.encode({ since_unix_s = now, until_unix_s = for_s and now + for_s or cjson.null })
if for_s then
  redis.call('SET', KEYS[1], cordon, 'PX', math.max(1, math.floor(for_s * 1000)))
else
  redis.call('SET', KEYS[1], cordon)
end
redis.call('PUBLISH', KEYS[1], '')
"""
_UNCORDON = """#!lua flags=allow-oom
local was_there = redis.call('DEL', KEYS[1])
redis.call('PUBLISH', KEYS[1], '')
return was_there
"""


RELOAD = b"reload"
KILL = b"kill "
"""The beginning of a message that asks a worker to kill the process of the model that follows."""
"""The message on a node's channel that has the node read its settings again."""


@attrs.frozen
class PutResult:
    """The result of a `put`."""

    holder: NodeRecord | None = None
    """The record of another incarnation that has the name; nothing was written then. Else None."""
    cordon: Cordon | None = None
    """The cordon of the node's name, if there is one."""


class NodeStore:
    """Reads and writes the records. Every method raises `errors.Unavailable` while Redis is away."""

    def __init__(self, call: Call, namespace: str) -> None:
        self._call = call
        self._names = RedisNames(namespace)

    def __repr__(self) -> str:
        return f"<NodeStore of {self._names.namespace}>"

    def cordon_channel(self, name: str) -> str:
        """The channel of the node `name`: announces changes of its cordon, and asks the node to read its settings."""
        return self._names.cordon(name)

    async def put(self, record: NodeRecord, tree: object = None, *, replaces: str = "") -> PutResult:
        """Writes the record, unless another incarnation than the record's own, or than `replaces`, has the name.

        `tree` is the snapshot of the node's supervision tree, as in `/v1/tree`.
        """
        ours = (record.incarnation, replaces, record.role.value, record.encode())
        answer = await self._call(
            *("EVAL", _PUT, 3, self._names.node(record.name), self._names.nodes, self._names.cordon(record.name)),
            *(*ours, round(TTL_S * 1000), record.name, msgspec.json.encode(tree)),
        )
        holder, cordon = answer
        if holder is not None:
            return PutResult(holder=NodeRecord.decode(holder))
        return PutResult(cordon=None if cordon is None else Cordon.decode(cordon))

    async def remove(self, record: NodeRecord) -> None:
        """Deletes the record, if the record in Redis is still of this incarnation."""
        await self._call(
            *("EVAL", _REMOVE, 2, self._names.node(record.name), self._names.nodes, record.incarnation, record.name)
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

    async def cordon(self, name: str, for_s: float | None = None) -> None:
        """Has the node `name` take no work, for `for_s` seconds or until `uncordon`.

        A running node learns of this at once, or at its next renewal. A node that is started later under this name
        learns of this when it starts.
        """
        await self._call("EVAL", _CORDON, 1, self._names.cordon(name), "" if for_s is None else repr(float(for_s)))

    async def uncordon(self, name: str) -> bool:
        """Has the node `name` take work again. False where the node had no cordon."""
        return bool(await self._call("EVAL", _UNCORDON, 1, self._names.cordon(name)))

    async def ask_to_reload(self, name: str) -> None:
        """Asks the running node `name` to read its settings again. The node's log says what has changed."""
        await self._call("PUBLISH", self._names.cordon(name), RELOAD)

    async def ask_to_kill(self, name: str, model: str) -> None:
        """Asks the running worker `name` to kill the process of a model. A worker without the setting `drills` does
        nothing.
        """
        await self._call("PUBLISH", self._names.cordon(name), KILL + model.encode())

    async def cordon_of(self, name: str) -> Cordon | None:
        """The cordon of the node `name`, which need not run; None where there is none."""
        data = await self._call("GET", self._names.cordon(name))
        return None if data is None else Cordon.decode(data)


def _decode(name: str, data: bytes) -> NodeRecord | None:
    try:
        return NodeRecord.decode(data)
    except msgspec.DecodeError as error:
        # A node of another version wrote the record, which must not crash this node.
        log.warning("a node's record is ignored because it cannot be read", node=name, error=str(error))
        return None
