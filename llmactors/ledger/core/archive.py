"""What is kept of requests that have ended: their logs for a time, then a tombstone. Pure."""

from collections import OrderedDict, deque
from collections.abc import Iterator

import attrs

from llmactors.ledger.core.record import Record
from llmactors.ledger.settings import LedgerSettings
from llmactors.ledger.values import SubmitOutcome
from llmactors.messages import GenerateRequest


@attrs.frozen
class _Tombstone:
    until: float
    request_hash: int


class Archive:
    """Ended requests in the order of their ends, and tombstones in the order of eviction; both are bounded."""

    def __init__(self, settings: LedgerSettings) -> None:
        self._settings = settings
        self._kept: deque[tuple[float, Record]] = deque()
        self._kept_tokens = 0
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
        """Whether the archive is over a bound, so that the oldest requests are evicted early."""
        return len(self._kept) > self._settings.retained_max or self._kept_tokens > self._settings.retained_tokens_max

    def outcome(self, request: GenerateRequest) -> SubmitOutcome | None:
        """The outcome of a repeated submit whose first request is a tombstone; None for an unknown id."""
        stone = self._tombstones.get(request.id)
        if stone is None:
            return None
        return SubmitOutcome.DUPLICATE if stone.request_hash == hash(request) else SubmitOutcome.CONFLICT

    def keep(self, record: Record, now: float) -> None:
        """Adds a request that has just ended."""
        self._kept.append((now + self._settings.retention_s, record))
        self._kept_tokens += len(record.tokens)

    def evict(self, now: float) -> Iterator[Record]:
        """Turns each record whose time is over, or is beyond the bounds, into a tombstone, and yields it."""
        while self._kept and (self._kept[0][0] <= now or self.is_full):
            _, record = self._kept.popleft()
            self._kept_tokens -= len(record.tokens)
            stone = _Tombstone(now + self._settings.tombstone_s, hash(record.request))
            self._tombstones[record.request.id] = stone
            yield record
        self._forget(now)

    def _forget(self, now: float) -> None:
        stones = self._tombstones
        while stones and (len(stones) > self._settings.tombstones_max or next(iter(stones.values())).until <= now):
            stones.popitem(last=False)
