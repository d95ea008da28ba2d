"""The settings that only a ledger across processes needs, beside `LedgerSettings`."""

import attrs


@attrs.frozen(kw_only=True)
class RedisLedgerSettings:
    """Times in seconds."""

    namespace: str = "main"
    """Ledgers of different namespaces share nothing."""
    call_timeout_s: float = 2.0
    """How long an operation of a gateway is retried before it raises `Unavailable`."""
    silence_s: float = 1.0
    """Re-read a running request's log after this silence: a push may be lost."""
    still_read_s: float = 5.0
    """How often at most a gateway says which logs its clients still read that ended so long ago: at least three times
    in `retention_s`. A client that reads fast costs no such call."""
    unread_copy_s: float = 5.0
    """How long a gateway keeps its copy of a request that nobody reads there. If Redis forgets the request within this
    time, the gateway restores it. With `appendfsync everysec` Redis can forget the last two seconds."""
    gateway_lease_s: float = 5.0
    """A gateway that is silent for this long counts as reading nothing."""
    outage_s: float = 0.75
    """If no operation reached the ledger for this long, the ledger was away: leases and graces are then extended."""
    disconnect_grace_s: float = 0.5
    """A worker whose connection ended, and that has not connected again after this time, loses its requests. A dead
    process's connection ends at once. The lease is for a process that hangs, and for a machine that is lost."""
    look_for_work_s: float = 0.5
    """A worker that no wake-up reaches looks for work this often."""
    key_ttl_s: float = 86_400.0
    """The time to live of every key in use, if nothing deletes the key before. Each claim renews it, so that no attempt
    can last longer."""
