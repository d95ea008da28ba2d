"""Which hours and days a question about usage spans, and how their sums are put together. Pure."""

import enum
from collections.abc import Iterable, Iterator, Sequence

import attrs

from llmactors.ledger.settings import LedgerSettings
from llmactors.ledger.usage import UsageBy, UsageReport, UsageSum, UsageTotal

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


class SpanKind(enum.Enum):
    """How long a span of sums is. The value names the span in Redis."""

    HOUR = "hour"
    DAY = "day"

    @property
    def length_ms(self) -> int:
        return HOUR_MS if self is SpanKind.HOUR else DAY_MS

    def kept_ms(self, settings: LedgerSettings) -> int:
        """How long after its end the sums of a span are kept."""
        kept_s = settings.usage_hours_s if self is SpanKind.HOUR else settings.usage_days_s
        return round(kept_s * 1000)


@attrs.frozen(cache_hash=True)
class Span:
    """One hour or one day of UTC."""

    start_ms: int
    kind: SpanKind

    @classmethod
    def at(cls, kind: SpanKind, now_ms: int) -> "Span":
        """The hour or day to which a moment belongs."""
        return cls(now_ms - now_ms % kind.length_ms, kind)

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.kind.length_ms


Cell = tuple[str, str, str]
"""The tenant, the key's id and the model of one sum."""


def spans_of(since_ms: int, until_ms: int, by: UsageBy, now_ms: int, settings: LedgerSettings) -> tuple[Span, ...]:
    """The spans that cover the time from `since_ms` to before `until_ms`, in their order. No two of them overlap.

    Whole days are days; the rest is hours, or the whole day where the hours are no longer kept. Sums by hour are made
    of hours only, and sums by day of days only.
    """
    hours_from = _first_kept(SpanKind.HOUR, now_ms, settings)
    first = hours_from if by is UsageBy.HOUR else _first_kept(SpanKind.DAY, now_ms, settings)
    since_ms, until_ms = max(since_ms, first), min(until_ms, now_ms + 1)
    if since_ms >= until_ms:
        return ()
    if by is UsageBy.HOUR:
        return tuple(_steps(SpanKind.HOUR, since_ms, until_ms))
    found: list[Span] = []
    for day in _steps(SpanKind.DAY, since_ms, until_ms):
        is_whole = since_ms <= day.start_ms and day.end_ms <= until_ms
        if is_whole or by is UsageBy.DAY or max(since_ms, day.start_ms) < hours_from:
            found.append(day)
        else:
            found += _steps(SpanKind.HOUR, max(since_ms, day.start_ms), min(until_ms, day.end_ms))
    return tuple(found)


def report(spans: Sequence[tuple[Span, Iterable[tuple[Cell, UsageTotal]]]], by: UsageBy, until_ms: int) -> UsageReport:
    """The sums of some spans in their order, by what is asked for. Sorted: the largest first, times in their order.

    Without any span, the report is of no time before `until_ms`.
    """
    together: dict[tuple[str, str, str, int | None], UsageTotal] = {}
    for span, cells in spans:
        for cell, counts in cells:
            key = _key(by, cell, span)
            together[key] = together.get(key, UsageTotal()) + counts
    sums = [
        UsageSum(tenant=tenant, key_id=key_id, model=model, start_ms=start_ms, counts=counts)
        for (tenant, key_id, model, start_ms), counts in together.items()
    ]
    since_ms = spans[0][0].start_ms if spans else until_ms
    until_ms = spans[-1][0].end_ms if spans else until_ms
    return UsageReport(since_ms, until_ms, tuple(sorted(sums, key=order_of)))


def _first_kept(kind: SpanKind, now_ms: int, settings: LedgerSettings) -> int:
    """The start of the oldest span that is certainly kept."""
    oldest_end_ms = now_ms - kind.kept_ms(settings)
    return -(-max(0, oldest_end_ms) // kind.length_ms) * kind.length_ms


def _steps(kind: SpanKind, since_ms: int, until_ms: int) -> Iterator[Span]:
    span = Span.at(kind, since_ms)
    while span.start_ms < until_ms:
        yield span
        span = Span(span.end_ms, kind)


def _key(by: UsageBy, cell: Cell, span: Span) -> tuple[str, str, str, int | None]:
    tenant, key_id, model = cell
    match by:
        case UsageBy.TENANT:
            return tenant, "", "", None
        case UsageBy.KEY:
            return tenant, key_id, "", None
        case UsageBy.MODEL:
            return "", "", model, None
        case UsageBy.HOUR | UsageBy.DAY:
            return "", "", "", span.start_ms


def order_of(each: UsageSum) -> tuple[int, int, str, str, str]:
    """Orders sums: by time, and of one time the one with the most tokens first."""
    counts = each.counts
    tokens = counts.prompt_tokens + counts.completion_tokens
    return each.start_ms or 0, -tokens, each.tenant, each.key_id, each.model
