"""A ledger over several ledgers, so that more than one Redis shares the work.

ledger     the `Ledger` over all shards       placement  on which shard a request lives
shard      one shard, and what it is yet to be told while it is away
workers    what workers do with all shards    members    what each worker of this process holds
claiming   the claims, and slots left open
rotation   the turns of the shards in claims  merging    sums, pages and lists of all shards
preference which shards a worker asks first   heard      what a worker has heard of its shards
"""

from llmactors.ledger.sharded.ledger import ShardedLedger
from llmactors.ledger.sharded.placement import Placement
from llmactors.ledger.sharded.shard import ShardLedger

__all__ = ["Placement", "ShardLedger", "ShardedLedger"]
