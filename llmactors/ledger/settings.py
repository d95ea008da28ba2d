"""The ledger's bounds and times: one frozen value, equal for every ledger that the contract tests run against."""

import attrs
from attrs.validators import ge, gt


@attrs.frozen(kw_only=True)
class LedgerSettings:
    """How much a ledger holds, and for how long. Raises `ValueError` where a value makes no sense."""

    max_queued: int = attrs.field(default=1024, validator=ge(1))
    """Requests that may wait. Work that was accepted once comes back to the queue also beyond this."""
    max_queued_bytes: int = attrs.field(default=64 * 2**20, validator=ge(1))
    """Bytes of prompts and stop strings that may wait."""
    lease_s: float = attrs.field(default=5.0, validator=gt(0))
    """A worker that is silent for this long has lost its requests."""
    retention_s: float = attrs.field(default=60.0, validator=ge(0))
    """How long an ended request's log can be read."""
    tombstone_s: float = attrs.field(default=600.0, validator=ge(0))
    """How long after that the id is answered with `errors.Expired` instead of `errors.NotFound`."""
    quarantine_from_attempt: int = attrs.field(default=3, validator=ge(1))
    """From this attempt on a request is suspected: it runs with suspects only, and a crash with it alone ends it."""
    suspects_together: tuple[int, ...] = (8, 3)
    """How many suspects may run together on a worker: in their first attempt as such, in the next, and so on; after
    that each runs alone. So one request that crashes workers is found within a few crashes, and many that merely lost
    their workers, as with a machine, need not wait for each other."""
    dead_letters_kept: int = attrs.field(default=256, validator=ge(0))
    retained_max: int = attrs.field(default=16_384, validator=ge(1))
    """Ended requests kept at most; beyond it the oldest go before their `retention_s`."""
    retained_tokens_max: int = attrs.field(default=1_000_000, validator=ge(0))
    """Tokens in the logs of ended requests, at most, in the same way. A token takes about 150 bytes."""
    tombstones_max: int = attrs.field(default=65_536, validator=ge(0))
    dead_workers_kept: int = attrs.field(default=4096, validator=ge(0))
    """Worker ids remembered as dead. An older one could come back, and would hold nothing."""

    def together(self, attempt: int) -> int:
        """How many suspects may run with one on its `attempt`-th attempt, itself included."""
        stage = attempt - self.quarantine_from_attempt
        return self.suspects_together[stage] if stage < len(self.suspects_together) else 1
