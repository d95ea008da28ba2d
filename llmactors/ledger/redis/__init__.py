"""The ledger in Redis, for gateways and workers in many processes.

    functions.lua  every move of a request, atomic inside Redis    library  brings them there
    codec          what is stored and pushed, as bytes             mirrors  a gateway's copies of the logs it reads
    ledger         the `Ledger` Protocol over all of that          workers  what this process's workers hold

Made of what Redis 7.0 and Valkey 7.2 have: functions, streams, RESP3 pushes. No blocking commands.
"""

from llmactors.ledger.redis.ledger import RedisLedger

__all__ = ["RedisLedger"]
