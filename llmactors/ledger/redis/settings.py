"""What only a ledger across processes has to know, beside `LedgerSettings`."""

import attrs


@attrs.frozen(kw_only=True)
class RedisLedgerSettings:
    """Times in seconds."""

    namespace: str = "main"
    """Ledgers of different namespaces share nothing."""
    patience_s: float = 2.0
    """How long an operation of a gateway is tried before it is `Unavailable`."""
    silence_s: float = 1.0
    """A log whose request runs and that nothing is heard of for so long is read: a push is only a hint."""
    unread_s: float = 5.0
    """A gateway goes on knowing a request that it admitted for so long, though nobody reads it there: should Redis
    forget it, as it can the last two seconds with `appendfsync everysec`, the gateway admits it anew."""
    reader_s: float = 5.0
    """A gateway that is silent for so long reads nothing any more."""
    outage_s: float = 0.75
    """If the ledger was not looked at for so long, it was away: no lease and no grace runs out in that time."""
    hung_up_s: float = 0.5
    """A worker whose connection ended, as a dead process's does at once, and that does not come back within so long has
    lost its requests, however long its lease. The lease is for one that hangs, and for a machine that is gone."""
    look_every_s: float = 0.5
    """A worker looks for work this often also if nothing wakes it."""
    keep_s: float = 86_400.0
    """Time to live of every key that is in use, as a last resort; renewed at each claim, so no attempt lasts longer."""
