"""What is kept of requests that have ended: their logs for a time, then a tombstone. Pure."""

from collections.abc import Iterator

import attrs

from llmactors.ledger.core.record import Record
from llmactors.ledger.core.shares import Shares
from llmactors.ledger.core.tenant_order import TenantOrder
from llmactors.ledger.core.timers import Timers
from llmactors.ledger.settings import LedgerSettings
from llmactors.ledger.values import SubmitOutcome
from llmactors.messages import GenerateRequest

_LOOKED_AT_MAX = 64
"""So many logs that are read are passed over to find one that is not, so that no eviction takes long."""


@attrs.frozen
class _Tombstone:
    until: float
    request_hash: int


class Archive:
    """Ended requests and tombstones, in the order of their ends. Both are bounded.

    Beyond a bound, the tenant that has the most loses its oldest, so that no tenant evicts what the others have. The
    oldest is the one that ended first, however long it should be kept: a client still reads an answer that has just
    ended. What a follower reads goes last.
    """

    def __init__(self, settings: LedgerSettings) -> None:
        self._settings = settings
        self._kept: TenantOrder[Record] = TenantOrder()
        """The logs in the order of their ends. A log that was passed over because it is read stands behind others."""
        self._due = Timers()
        """When the time of each log is over, unless the log is read."""
        self._tokens = Shares()
        self._tombstones: TenantOrder[_Tombstone] = TenantOrder()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, request_id: str) -> bool:
        """Whether there is a tombstone."""
        return request_id in self._tombstones

    def __repr__(self) -> str:
        return f"<Archive: {len(self)} logs, {len(self._tombstones)} tombstones>"

    @property
    def is_full(self) -> bool:
        """Whether the archive is over a bound, so that requests are evicted early."""
        return self._crowded() is not None

    def outcome(self, request: GenerateRequest) -> SubmitOutcome | None:
        """The outcome of a repeated submit whose first request is a tombstone; None for an unknown id."""
        stone = self._tombstones.get(request.id)
        if stone is None:
            return None
        return SubmitOutcome.DUPLICATE if stone.request_hash == hash(request) else SubmitOutcome.CONFLICT

    def keep(self, record: Record, now: float) -> None:
        """Adds a request that has just ended."""
        tenant = record.request.tenant
        record.ended_at = record.read_at = now
        self._kept.add(record.request.id, tenant, record)
        self._due.set(record.request.id, self._kept_until(record, now))
        self._tokens.add(tenant, record.retained_tokens)

    def evict(self, now: float) -> Iterator[Record]:
        """Turns each record whose time is over, or is beyond the bounds, into a tombstone, and yields it."""
        while (record := self._overdue(now) or self._surplus(now)) is not None:
            self.bury(record, now)
            yield record
        self._forget(now)

    def bury(self, record: Record, now: float) -> None:
        """Turns a record into a tombstone."""
        tenant = record.request.tenant
        self._kept.pop(record.request.id)
        self._due.clear(record.request.id)
        self._tokens.add(tenant, -record.retained_tokens)
        stone = _Tombstone(now + self._settings.tombstone_s, hash(record.request))
        self._tombstones.add(record.request.id, tenant, stone)

    def _kept_until(self, record: Record, now: float) -> float:
        """When the time of a record is over, as far as is known now."""
        own_ms, retention_s = record.request.retention_ms, self._settings.retention_s
        kept_s = retention_s if own_ms is None else own_ms / 1000
        read_at = now if record.readers else record.read_at
        read_at = min(read_at, record.ended_at + self._settings.longest_read_s)
        return max(record.ended_at + kept_s, read_at + min(kept_s, retention_s))

    def _overdue(self, now: float) -> Record | None:
        """A record whose time is over."""
        for request_id in self._due.pop_due(now):
            record = self._kept.get(request_id)
            assert record is not None  # noqa: S101 - each record that is kept has a time, and no other
            until = self._kept_until(record, now)
            if until <= now:
                return record
            self._due.set(request_id, until)
        return None

    def _surplus(self, now: float) -> Record | None:
        """Of the tenant that has too much, the record that ended first; None where nothing is too much."""
        crowded = self._crowded()
        if crowded is None:
            return None
        tenant = crowded.largest()
        for _ in range(_LOOKED_AT_MAX):
            record = self._kept.oldest_of(tenant)
            if record is None or not record.readers or record.ended_at + self._settings.longest_read_s < now:
                return record
            self._kept.add(record.request.id, tenant, self._kept.pop(record.request.id))
        return self._kept.oldest_of(tenant)

    def _crowded(self) -> Shares | None:
        """What there is too much of, by tenant."""
        if len(self) > self._settings.retained_max:
            return self._kept.counts
        return self._tokens if self._tokens.total > self._settings.retained_tokens_max else None

    def _forget(self, now: float) -> None:
        stones = self._tombstones
        while stones and stones.oldest().until <= now:
            stones.pop_oldest()
        while len(stones) > self._settings.tombstones_max:
            stones.pop_oldest(stones.counts.largest())
