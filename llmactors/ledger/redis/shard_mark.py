"""Which shard of a ledger a server has. With another list of servers, requests would be looked for in vain."""

from llmactors.errors import OperatorError
from llmactors.redislink.call import Call
from llmactors.redislink.errors import ReplyError
from llmactors.redislink.names import LedgerKey, RedisNames


class WrongShard(OperatorError):
    """The server has requests of another division into shards."""


async def check_shard(call: Call, names: RedisNames, number: int, shards: int) -> None:
    """Marks the server as shard `number` of so many. Raises `WrongShard` where it has open requests as another one."""
    try:
        marked = await call("GET", names.shard)
    except ReplyError:
        if shards > 1:
            raise
        return  # what is wrong with the server is said where it is used
    before = "0/1" if marked is None else marked.decode("utf-8", "replace")
    now = f"{number}/{shards}"
    if before == now:
        return
    counts = await call("HMGET", names.ledger(LedgerKey.COUNTERS), "queued", "running")
    if any(int(count or 0) for count in counts):
        raise WrongShard(
            f"this Redis has open requests as shard {before}, and is to be shard {now}: give the Redis URLs in the "
            "order of before, or let all requests end first"
        )
    if shards == 1:
        await call("DEL", names.shard)
    else:
        await call("SET", names.shard, now)
