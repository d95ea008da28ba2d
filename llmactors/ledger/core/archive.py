"""What is kept of requests that have ended: their logs for a time, then a tombstone. Pure."""

from collections.abc import Iterator

import attrs

from llmactors.ledger.core.record import Record
from llmactors.ledger.core.shares import Shares
from llmactors.ledger.core.tenant_order import TenantOrder
from llmactors.ledger.settings import LedgerSettings
from llmactors.ledger.values import SubmitOutcome
from llmactors.messages import GenerateRequest


@attrs.frozen
class _Tombstone:
    until: float
    request_hash: int


class Archive:
    """Ended requests in the order of their ends, and tombstones in the order of eviction; both are bounded.

    Beyond a bound, the tenant that has the most loses its oldest, so that no tenant evicts what the
    others have.
    """

    def __init__(self, settings: LedgerSettings) -> None:
        self._settings = settings
        self._kept: TenantOrder[tuple[float, Record]] = TenantOrder()
        self._tokens = Shares()
        self._tombstones: TenantOrder[_Tombstone] = TenantOrder()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, request_id: str) -> bool:
        """Whether there is a tombstone."""
        return request_id in self._tombstones

    def __repr__(self) -> str:
        return f"<Archive: {len(self._kept)} logs, {len(self._tombstones)} tombstones>"

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
        self._kept.add(record.request.id, tenant, (now + self._settings.retention_s, record))
        self._tokens.add(tenant, len(record.tokens))

    def evict(self, now: float) -> Iterator[Record]:
        """Turns each record whose time is over, or is beyond the bounds, into a tombstone, and yields it."""
        while self._kept:
            until, _ = self._kept.oldest()
            crowded = self._crowded()
            if until > now and crowded is None:
                break
            _, record = self._kept.pop_oldest(None if until <= now or crowded is None else crowded.largest())
            tenant = record.request.tenant
            self._tokens.add(tenant, -len(record.tokens))
            stone = _Tombstone(now + self._settings.tombstone_s, hash(record.request))
            self._tombstones.add(record.request.id, tenant, stone)
            yield record
        self._forget(now)

    def _crowded(self) -> Shares | None:
        """What there is too much of, by tenant."""
        if len(self._kept) > self._settings.retained_max:
            return self._kept.counts
        return self._tokens if self._tokens.total > self._settings.retained_tokens_max else None

    def _forget(self, now: float) -> None:
        stones = self._tombstones
        while stones and stones.oldest().until <= now:
            stones.pop_oldest()
        while len(stones) > self._settings.tombstones_max:
            stones.pop_oldest(stones.counts.largest())
