"""The ledger in Redis, for gateways and workers in many processes.

    ledger         the `Ledger` Protocol over all of this
    functions.lua  every move of a request, atomic inside Redis    library  brings them there
    limits.lua     what callers may use, in the same moves
    calls          once, for a while, or for as long as it takes   codec    what is stored and pushed, as bytes
    reading        keeps a gateway's copies of logs up             mirrors  these copies
    workers        what this process's workers hold                settings

Made of what Redis 7.0 and Valkey 7.2 have: functions, streams, RESP3 pushes. No blocking commands.
"""

from llmactors.ledger.redis.ledger import RedisLedger
from llmactors.ledger.redis.settings import RedisLedgerSettings

__all__ = ["RedisLedger", "RedisLedgerSettings"]
