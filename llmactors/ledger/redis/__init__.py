"""The ledger in Redis, for gateways and workers in many processes.

ledger          the `Ledger` over all of this          codec       what is stored and pushed, as bytes
functions       calls of the functions in Redis        workers     what this process's workers hold
log_reader      keeps a gateway's log copies complete  log_copies  these copies
library         brings the Lua files into Redis        settings
losses          what Redis has lost, counted
handed_out      messages about requests that were handed out
wrong_keys      logs keys that have another type       request_views  what operators see of requests
shard_mark      which shard of a ledger a server has

context.lua     what one call knows and gathers        queue.lua   fair order
lifecycle.lua   the state changes of a request         limits.lua  what callers have used
affinity.lua    which worker had a conversation
usage.lua       what ended requests have used
leases.lua      which workers are alive, silent or dead
preemption.lua  a running request gives up its slot
sharding.lua    what only a ledger with several shards asks
claims.lua      what a worker gets when it asks        handing_out.lua  what it gets without asking
offers.lua      the slots to which requests may be handed
gateways.lua, workers.lua, reaper.lua, operators.lua, inspection.lua   the operations, each of them one atomic step

The functions use what Redis 7.0 and Valkey 7.2 have: functions, streams, RESP3 pushes. No command blocks.
"""

from llmactors.ledger.redis.ledger import LEDGER_LINK, RedisLedger
from llmactors.ledger.redis.settings import RedisLedgerSettings

__all__ = ["LEDGER_LINK", "RedisLedger", "RedisLedgerSettings"]
