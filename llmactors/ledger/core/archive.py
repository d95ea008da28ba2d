"""What is kept of requests that have ended: their logs for a time, then a tombstone. Pure."""

import operator
from collections.abc import Iterator

import attrs

from llmactors.ledger.core.record import Record
from llmactors.ledger.core.shares import Shares
from llmactors.ledger.core.tenant_order import TenantOrder
from llmactors.ledger.settings import LedgerSettings
from llmactors.ledger.values import SubmitOutcome
from llmactors.messages import GenerateRequest

_ENDED = operator.itemgetter(0)


@attrs.frozen
class _Tombstone:
    until: float
    request_hash: int


class Archive:
    """Ended requests and tombstones, in the order of their ends. Both are bounded.

    Beyond a bound, the tenant that has the most loses its oldest, so that no tenant evicts what the others have. The
    oldest is the one that ended first, however long it should be kept: a client still reads an answer that has just
    ended.
    """

    def __init__(self, settings: LedgerSettings) -> None:
        self._settings = settings
        self._kept: dict[float, TenantOrder[tuple[float, Record]]] = {}
        """By the time that the logs are kept, of which there are few different ones: the logs in the order of their
        ends, each with the moment of its end."""
        self._logs = Shares()
        self._tokens = Shares()
        self._tombstones: TenantOrder[_Tombstone] = TenantOrder()

    def __len__(self) -> int:
        return self._logs.total

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
        self._kept.setdefault(self._kept_s(record), TenantOrder()).add(record.request.id, tenant, (now, record))
        self._logs.add(tenant, 1)
        self._tokens.add(tenant, record.retained_tokens)

    def evict(self, now: float) -> Iterator[Record]:
        """Turns each record whose time is over, or is beyond the bounds, into a tombstone, and yields it."""
        while (record := self._overdue(now) or self._surplus()) is not None:
            self.bury(record, now)
            yield record
        self._forget(now)

    def bury(self, record: Record, now: float) -> None:
        """Turns a record into a tombstone."""
        kept_s, tenant = self._kept_s(record), record.request.tenant
        self._kept[kept_s].pop(record.request.id)
        if not self._kept[kept_s]:
            del self._kept[kept_s]
        self._logs.add(tenant, -1)
        self._tokens.add(tenant, -record.retained_tokens)
        stone = _Tombstone(now + self._settings.tombstone_s, hash(record.request))
        self._tombstones.add(record.request.id, tenant, stone)

    def _kept_s(self, record: Record) -> float:
        own_ms = record.request.retention_ms
        return self._settings.retention_s if own_ms is None else own_ms / 1000

    def _overdue(self, now: float) -> Record | None:
        """A record whose time is over."""
        for kept_s, kept in self._kept.items():
            ended, record = kept.oldest()
            if ended + kept_s <= now:
                return record
        return None

    def _surplus(self) -> Record | None:
        """Of the tenant that has too much, the record that ended first; None where nothing is too much."""
        crowded = self._crowded()
        if crowded is None:
            return None
        tenant = crowded.largest()
        found = [first for kept in self._kept.values() if (first := kept.oldest_of(tenant)) is not None]
        return min(found, key=_ENDED)[1]

    def _crowded(self) -> Shares | None:
        """What there is too much of, by tenant."""
        if len(self) > self._settings.retained_max:
            return self._logs
        return self._tokens if self._tokens.total > self._settings.retained_tokens_max else None

    def _forget(self, now: float) -> None:
        stones = self._tombstones
        while stones and stones.oldest().until <= now:
            stones.pop_oldest()
        while len(stones) > self._settings.tombstones_max:
            stones.pop_oldest(stones.counts.largest())
