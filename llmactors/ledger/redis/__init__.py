"""The ledger in Redis, for gateways and workers in many processes.

    ledger         the `Ledger` Protocol over all of this
    calls          once, for a while, or for as long as it takes   codec    what is stored and pushed, as bytes
    reading        keeps a gateway's copies of logs up             mirrors  these copies
    workers        what this process's workers hold                settings
    library        brings the Lua into Redis:

    context.lua    the keys; what one call gathers                 queue.lua     fair order
    moves.lua      what becomes of a request                       limits.lua    what callers may use
    gateways.lua, workers.lua, anybody.lua: the calls, each one atomic move        register.lua  their names

Made of what Redis 7.0 and Valkey 7.2 have: functions, streams, RESP3 pushes. No blocking commands.
"""

from llmactors.ledger.redis.ledger import RedisLedger
from llmactors.ledger.redis.settings import RedisLedgerSettings

__all__ = ["RedisLedger", "RedisLedgerSettings"]
