"""The models of the cluster in Redis: they stay known when no worker runs, so that requests can wait for them.

A worker writes what it has declared every half minute. Redis keeps an entry for `KEEP_S` seconds after that, and a
gateway decides by its setting `known_model_s` how old an entry may be.

A gateway writes for which models it accepts requests. One that starts accepts them too, until it has waited for their
workers as long as the other one would have: the records of all workers may be missing when it first looks.
"""

from collections.abc import Sequence

import attrs
import msgspec
import structlog

from llmactors.backends.base import Capabilities
from llmactors.redislink.call import Call
from llmactors.redislink.names import RedisNames

log = structlog.get_logger("llmactors.cluster")

KEEP_S = 30 * 86_400
SERVED_S = 600
"""How long the models of gateways are kept after a gateway last wrote them."""
REMEMBER_EVERY_S = 30.0
_MOST = 1024
"""How many models are kept: those that were written last."""

_REMEMBER = """#!lua
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], now .. ' ' .. ARGV[i + 1]) end
local all, entries = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  entries[#entries + 1] = { tonumber(string.match(all[i + 1], '^%d+')) or 0, all[i] }
end
table.sort(entries, function(a, b) return a[1] > b[1] end)
for i, entry in ipairs(entries) do
  if i > tonumber(ARGV[2]) or entry[1] < now - ARGV[1] then redis.call('HDEL', KEYS[1], entry[2]) end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""
_READ = """#!lua flags=no-writes
local now = redis.call('TIME')
return { now[1] * 1000 + math.floor(now[2] / 1000), redis.call('HGETALL', KEYS[1]) }
"""
_RESERVE = """#!lua flags=allow-oom
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


@attrs.frozen
class KnownModel:
    """A model that a worker has declared."""

    name: str
    capabilities: Capabilities | None = None
    """What the model can do, as far as the worker knew."""
    unseen_s: float = 0.0
    """How long ago a worker wrote this entry."""


class KnownModels:
    """Reads and writes the entries. Every method raises `errors.Unavailable` while Redis is away."""

    def __init__(self, call: Call, namespace: str) -> None:
        self._call = call
        self._names = RedisNames(namespace)

    def __repr__(self) -> str:
        return f"<KnownModels of {self._names.namespace}>"

    async def remember(self, models: Sequence[KnownModel]) -> None:
        """Writes these entries, as of now."""
        pairs = [part for each in models for part in (each.name, msgspec.json.encode(each.capabilities))]
        await self._call("EVAL", _REMEMBER, 1, self._names.known_models, KEEP_S * 1000, _MOST, *pairs)

    async def read(self) -> list[KnownModel]:
        """All entries, sorted by name. An entry that cannot be read has no capabilities."""
        now_ms, found = await self._call("EVAL", _READ, 1, self._names.known_models)
        pairs = zip(found[::2], found[1::2], strict=True)
        return sorted((_decode(name, value, int(now_ms)) for name, value in pairs), key=lambda each: each.name)

    async def note_served(self, models: Sequence[KnownModel]) -> None:
        """Writes the models for which a gateway accepts requests, in the order in which their names are chosen."""
        data = msgspec.json.encode([(each.name, each.capabilities) for each in models[:_MOST]])
        await self._call("SET", self._names.served_models, data, "EX", SERVED_S)

    async def served(self) -> list[KnownModel]:
        """What a gateway wrote last; empty where that was long ago."""
        data = await self._call("GET", self._names.served_models)
        try:
            found = [] if data is None else msgspec.json.decode(data, type=list[tuple[str, Capabilities | None]])
        except msgspec.DecodeError as error:
            # A gateway of another version wrote them.
            log.warning("the models of the gateways cannot be read", error=str(error))
            return []
        return [KnownModel(name, capabilities) for name, capabilities in found]

    async def forget(self, model: str) -> bool:
        """Deletes the entry of a model. False where there is none. A worker that declares the model writes it again."""
        return bool(await self._call("HDEL", self._names.known_models, model))

    async def reserve(self, model: str, node: str, for_s: float) -> bool:
        """Notes for `for_s` seconds that `node` loads `model` now. False while the note of another node is there."""
        key = self._names.loading(model)
        return bool(await self._call("EVAL", _RESERVE, 1, key, node, round(for_s * 1000)))


def _decode(name: bytes, value: bytes, now_ms: int) -> KnownModel:
    written_ms, _, data = bytes(value).partition(b" ")
    try:
        capabilities = msgspec.json.decode(data, type=Capabilities | None)
    except msgspec.DecodeError as error:
        log.warning("the capabilities of a known model cannot be read", model=name.decode(), error=str(error))
        capabilities = None
    age_ms = now_ms - int(written_ms) if written_ms.isdigit() else 0
    return KnownModel(name.decode(), capabilities, max(0.0, age_ms / 1000))
