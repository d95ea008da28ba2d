"""What ended requests have used: the newest records, and sums that outlive the records. Pure."""

from bisect import bisect_left
from collections import deque
from itertools import islice

from llmactors.ledger.core.usage_spans import Cell, Span, SpanKind, report, spans_of
from llmactors.ledger.settings import LedgerSettings
from llmactors.ledger.usage import (
    OTHERS,
    UsageBy,
    UsagePage,
    UsageRecord,
    UsageReport,
    UsageTotal,
    not_a_cursor,
)
from llmactors.messages import Finished, Terminal

_OTHERS: Cell = (OTHERS, OTHERS, OTHERS)


class UsageBook:
    """Records in the order of their ends, and sums of each hour and day by tenant, key and model; all are bounded.

    An hour or a day with more than `usage_sums_max` sums adds further requests to one sum of all others, so that
    totals stay exact.
    """

    def __init__(self, settings: LedgerSettings) -> None:
        self._settings = settings
        self._records: deque[UsageRecord] = deque(maxlen=settings.usage_records_max)
        self._written = 0
        """How many records were ever written; the number of a record is its cursor."""
        self._sums: dict[Span, dict[Cell, UsageTotal]] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"<UsageBook: {len(self)} records, {len(self._sums)} spans>"

    def add(self, record: UsageRecord, *, failed: bool) -> None:
        """Writes the record of a request that has just ended. To be called once for each request."""
        self._records.append(record)
        self._written += 1
        added = counts_of(record, failed=failed)
        cell = record.tenant, record.key_id, record.model
        for kind in SpanKind:
            self._add_to(Span.at(kind, record.ended_ms), cell, added)

    def _add_to(self, span: Span, cell: Cell, added: UsageTotal) -> None:
        sums = self._sums.get(span)
        if sums is None:
            self._forget_old_sums(span.start_ms)
            sums = self._sums[span] = {}
        if cell not in sums and len(sums) >= self._settings.usage_sums_max:
            cell = _OTHERS
        sums[cell] = sums.get(cell, UsageTotal()) + added

    def _forget_old_sums(self, now_ms: int) -> None:
        """Forgets sums whose time is over. There is something to forget only where a new span begins."""
        for span in [span for span in self._sums if span.end_ms + span.kind.kept_ms(self._settings) <= now_ms]:
            del self._sums[span]

    def forget_old(self, now_ms: int) -> None:
        """Forgets records whose time is over."""
        oldest_ms = now_ms - round(self._settings.usage_records_s * 1000)
        while self._records and self._records[0].ended_ms < oldest_ms:
            self._records.popleft()

    def page(self, since_ms: int, until_ms: int, after: str, limit: int) -> UsagePage:
        """Records that ended from `since_ms` to before `until_ms`, behind the cursor `after`; at most `limit`."""
        if after and not after.isdecimal():
            raise not_a_cursor(after)
        first = self._written - len(self._records)  # records are numbered from 0
        begin = bisect_left(self._records, since_ms, key=_ended_ms)
        begin = max(begin, int(after) + 1 - first) if after else begin
        end = bisect_left(self._records, until_ms, key=_ended_ms)
        found = tuple(islice(self._records, begin, min(end, begin + limit)))
        return UsagePage(found, str(first + begin + len(found) - 1) if begin + len(found) < end else "")

    def report(self, since_ms: int, until_ms: int, by: UsageBy, now_ms: int) -> UsageReport:
        """The sums over a span of time."""
        spans = spans_of(since_ms, until_ms, by, now_ms, self._settings)
        return report([(span, self._sums.get(span, {}).items()) for span in spans], by, until_ms)


def _ended_ms(record: UsageRecord) -> int:
    return record.ended_ms


def code_of(end: Terminal) -> str:
    """What the record says of a terminal event."""
    return end.reason if isinstance(end, Finished) else end.code


def counts_of(record: UsageRecord, *, failed: bool) -> UsageTotal:
    """What one record adds to the sums."""
    return UsageTotal(
        1,
        int(failed),
        record.prompt_tokens,
        record.completion_tokens,
        record.cached_tokens,
        record.queue_ms,
        record.run_ms,
        record.cost_nano,
    )
