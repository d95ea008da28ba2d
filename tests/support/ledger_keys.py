"""Which of the ledger's keys a name in Redis is."""

from llmactors.redislink.names import LedgerKey, RedisNames


def ledger_key_of(names: RedisNames, name: bytes) -> LedgerKey | None:
    """The kind of a key or channel of the ledger; None for a name that is not of this ledger."""
    prefix = names.ledger_prefix.encode()
    kind = name.removeprefix(prefix).partition(b":")[0].decode("utf-8", "replace")
    if not name.startswith(prefix):
        return None
    return next((key for key in LedgerKey if key.value.name == kind), None)
