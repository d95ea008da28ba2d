"""What is kept of requests that have ended: their logs for a time, then a tombstone. Pure."""

from collections import OrderedDict, deque
from collections.abc import Iterator

import attrs

from llmactors.ledger.core.record import Record
from llmactors.ledger.core.shares import Shares
from llmactors.ledger.settings import LedgerSettings
from llmactors.ledger.values import SubmitOutcome
from llmactors.messages import GenerateRequest


@attrs.frozen
class _Tombstone:
    until: float
    request_hash: int


class Archive:
    """Ended requests in the order of their ends, and tombstones in the order of eviction; both are bounded.

    Beyond a bound, the oldest request is evicted of the tenant that has the most kept there, so that no tenant evicts
    the answers of others who have less.
    """

    def __init__(self, settings: LedgerSettings) -> None:
        self._settings = settings
        self._kept: OrderedDict[str, tuple[float, Record]] = OrderedDict()
        self._of_tenant: dict[str, deque[str]] = {}
        self._logs = Shares()
        self._tokens = Shares()
        self._tombstones: OrderedDict[str, _Tombstone] = OrderedDict()

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
        return self._over_bound() is not None

    def outcome(self, request: GenerateRequest) -> SubmitOutcome | None:
        """The outcome of a repeated submit whose first request is a tombstone; None for an unknown id."""
        stone = self._tombstones.get(request.id)
        if stone is None:
            return None
        return SubmitOutcome.DUPLICATE if stone.request_hash == hash(request) else SubmitOutcome.CONFLICT

    def keep(self, record: Record, now: float) -> None:
        """Adds a request that has just ended."""
        tenant = record.request.tenant
        self._kept[record.request.id] = now + self._settings.retention_s, record
        self._of_tenant.setdefault(tenant, deque()).append(record.request.id)
        self._logs.add(tenant, 1)
        self._tokens.add(tenant, len(record.tokens))

    def evict(self, now: float) -> Iterator[Record]:
        """Turns each record whose time is over, or is beyond the bounds, into a tombstone, and yields it."""
        while self._kept:
            until, oldest = next(iter(self._kept.values()))
            crowded = self._over_bound()
            if until <= now:
                record = oldest
            elif crowded is not None:
                _, record = self._kept[self._of_tenant[crowded.largest()][0]]
            else:
                break
            self._remove(record)
            stone = _Tombstone(now + self._settings.tombstone_s, hash(record.request))
            self._tombstones[record.request.id] = stone
            yield record
        self._forget(now)

    def _over_bound(self) -> Shares | None:
        """What there is too much of."""
        if self._logs.total > self._settings.retained_max:
            return self._logs
        return self._tokens if self._tokens.total > self._settings.retained_tokens_max else None

    def _remove(self, record: Record) -> None:
        """Takes out the oldest request of a tenant."""
        tenant = record.request.tenant
        del self._kept[record.request.id]
        own = self._of_tenant[tenant]
        own.popleft()
        if not own:
            del self._of_tenant[tenant]
        self._logs.add(tenant, -1)
        self._tokens.add(tenant, -len(record.tokens))

    def _forget(self, now: float) -> None:
        stones = self._tombstones
        while stones and (len(stones) > self._settings.tombstones_max or next(iter(stones.values())).until <= now):
            stones.popitem(last=False)
