"""The ledger's bounds and times, which all nodes of a cluster should agree on."""

import attrs
from attrs.validators import ge, gt

TOKEN_BYTES = 150
"""About how much memory a token of a log takes. Where the tokens of a log take more, because they carry more than their
texts, every further 150 bytes count as another token against `LedgerSettings.retained_tokens_max`."""


@attrs.frozen(kw_only=True)
class LedgerSettings:
    """How much a ledger holds, and for how long. Raises `ValueError` for a value out of range."""

    max_queued: int = attrs.field(default=1024, validator=ge(1))
    """Requests that may wait. A request that was accepted before may return to a full queue."""
    max_queued_bytes: int = attrs.field(default=64 * 2**20, validator=ge(1))
    """Bytes of prompts and stop strings that may wait."""
    lease_s: float = attrs.field(default=5.0, validator=gt(0))
    """A worker that is silent for this long loses its requests."""
    retention_s: float = attrs.field(default=60.0, validator=ge(0))
    """How long an ended request's log can be read, counted from the end, or from when its last reader left."""
    longest_read_s: float = attrs.field(default=3600.0, validator=ge(0))
    """How long after its end a reader can keep a log from being deleted."""
    tombstone_s: float = attrs.field(default=600.0, validator=ge(0))
    """How long after `retention_s` the id is answered with `errors.Expired` instead of `errors.NotFound`."""
    quarantine_from_attempt: int = attrs.field(default=3, validator=ge(1))
    """From this attempt on a request is in quarantine: it runs only with others in quarantine, and a crash while it
    runs alone makes it a dead letter."""
    progress_tokens: int = attrs.field(default=256, validator=ge(1))
    """An attempt in which the log grew by so many tokens does not count, however it ended: a request that gets further
    each time does not crash its workers. Only an attempt with less progress is evidence against the request."""
    suspects_together: tuple[int, ...] = (8, 3)
    """How many requests in quarantine (suspects) may run together on a worker: in their first attempt there, in their
    next one, and so on; after that each runs alone. So a request that crashes workers is found within a few crashes,
    and many requests that only lost their workers, as with a machine, need not wait for each other."""
    affinity_wait_s: float = attrs.field(default=0.2, validator=ge(0))
    """How long other workers pass over a request whose conversation a live worker with free slots had last: that worker
    has the beginning of the prompt in its cache. 0: no request prefers a worker."""
    affinity_lead_max: int = attrs.field(default=1, validator=ge(0))
    """A request waits for its preferred worker only if that worker runs at most this many more requests than the worker
    that claims. Otherwise many requests with the same beginning would all go to one worker."""
    conversations_max: int = attrs.field(default=65_536, validator=ge(1))
    """The most conversations whose last worker is remembered; in Redis, the most of each model."""
    conversation_kept_s: float = attrs.field(default=600.0, validator=gt(0))
    """How long the last worker of a conversation is remembered, in seconds; in Redis, at least half of this."""
    preempt_after_s: float = attrs.field(default=0.0, validator=ge(0))
    """After this wait, a request may take the slot of a running request of a less urgent class. 0: never."""
    preemptions_max: int = attrs.field(default=3, validator=ge(0))
    """How often one request may give up its slot."""
    preemptions_per_s: float = attrs.field(default=4.0, validator=gt(0))
    """How many requests of one model may give up their slots in a second."""
    dead_letters_kept: int = attrs.field(default=256, validator=ge(0))
    retained_max: int = attrs.field(default=16_384, validator=ge(1))
    """Ended requests kept at most. Beyond this number the oldest are deleted before their `retention_s`."""
    retained_tokens_max: int = attrs.field(default=1_000_000, validator=ge(0))
    """Tokens in the logs of ended requests, bounded in the same way. A token takes about 150 bytes. Every
    150 bytes that a token carries beside its text, such as log probabilities, count as one more token, and so do every
    150 bytes of the request."""
    tombstones_max: int = attrs.field(default=65_536, validator=ge(0))
    usage_records_max: int = attrs.field(default=50_000, validator=ge(0))
    """Usage records kept at most: one of each ended request. Sums of all records are kept beyond this number."""
    usage_records_s: float = attrs.field(default=7 * 86_400.0, validator=ge(0))
    """How long a usage record is kept, in seconds."""
    usage_sums_max: int = attrs.field(default=1000, validator=ge(1))
    """In each hour and each day, how many tenants, keys and models together have sums of their own."""
    usage_hours_s: float = attrs.field(default=8 * 86_400.0, validator=ge(0))
    """How long the sums of an hour are kept after the hour, in seconds."""
    usage_days_s: float = attrs.field(default=400 * 86_400.0, validator=ge(0))
    """How long the sums of a day are kept after the day, in seconds."""
    dead_workers_kept: int = attrs.field(default=4096, validator=ge(0))
    """Ids of dead workers remembered at most. A worker with an older id could come back, and would hold nothing."""

    def together(self, attempt: int) -> int:
        """How many suspects may run with one on its `attempt`-th attempt, itself included."""
        stage = max(0, attempt - self.quarantine_from_attempt)  # below 0 after an attempt was taken back
        return self.suspects_together[stage] if stage < len(self.suspects_together) else 1
