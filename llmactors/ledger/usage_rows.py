"""Usage as rows of JSON and CSV: for the operators' routes and for commands. Pure.

An amount of money is a text, as in `0.00125`, because a number of JSON is not exact everywhere.
"""

from collections.abc import Sequence

import msgspec

from llmactors.ledger.usage import UsageBy, UsagePage, UsageRecord, UsageReport, UsageSum, UsageTotal
from llmactors.prices import format_amount

SUM_ROWS_MAX = 1000
"""The most rows of sums in one answer."""
_KEYS: dict[UsageBy, tuple[str, ...]] = {
    UsageBy.TENANT: ("tenant",),
    UsageBy.KEY: ("tenant", "key_id"),
    UsageBy.MODEL: ("model",),
    UsageBy.HOUR: ("start_unix_s",),
    UsageBy.DAY: ("start_unix_s",),
}


class UsageRecordRow(msgspec.Struct, kw_only=True, frozen=True, rename={"class_": "class"}):
    """What one ended request has used."""

    ended_unix_s: float
    id: str
    tenant: str
    key_id: str
    """The id of the API key; empty for no key of a store."""
    model: str
    class_: int
    """The priority class."""
    code: str
    """The finish reason, or the code of the error that ended the request."""
    attempts: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    """The tokens of the prompt that the backend read from its cache."""
    queue_s: float
    """How long the request waited for workers, over all attempts."""
    run_s: float
    """How long workers held the request, over all attempts."""
    cost: str
    """In units of the operator's currency."""


class UsageRecordRows(msgspec.Struct, kw_only=True, frozen=True):
    """A page of usage records, the oldest first."""

    records: Sequence[UsageRecordRow]
    next: str | None
    """The value of `after` for the next page; null where there is no next page."""


class UsageSumRow(msgspec.Struct, kw_only=True, frozen=True):
    """What some ended requests have used together. The fields by which the sums are not made are null."""

    tenant: str | None = None
    key_id: str | None = None
    model: str | None = None
    start_unix_s: float | None = None
    """When the hour or the day begins."""
    requests: int
    failed: int
    """How many of the requests ended with an error."""
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    queue_s: float
    run_s: float
    cost: str


class UsageSumRows(msgspec.Struct, kw_only=True, frozen=True):
    """Sums of usage."""

    by: str
    since_unix_s: float
    until_unix_s: float
    """The first moment that is not counted. The time is widened to whole hours or days."""
    rows: Sequence[UsageSumRow]
    """The row with the most tokens first, and hours and days in their order; at most 1000 rows."""
    rows_total: int
    total: UsageSumRow
    """All rows together."""


def record_row(record: UsageRecord) -> UsageRecordRow:
    """One record as a row."""
    return UsageRecordRow(
        ended_unix_s=record.ended_ms / 1000,
        id=record.request_id,
        tenant=record.tenant,
        key_id=record.key_id,
        model=record.model,
        class_=record.priority,
        code=record.code,
        attempts=record.attempts,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        cached_tokens=record.cached_tokens,
        queue_s=record.queue_ms / 1000,
        run_s=record.run_ms / 1000,
        cost=format_amount(record.cost_nano),
    )


def record_rows(page: UsagePage) -> UsageRecordRows:
    """One page as rows."""
    return UsageRecordRows(records=[record_row(each) for each in page.records], next=page.next or None)


def sum_rows(report: UsageReport, by: UsageBy) -> UsageSumRows:
    """The sums of a report as rows."""
    return UsageSumRows(
        by=by.value,
        since_unix_s=report.since_ms / 1000,
        until_unix_s=report.until_ms / 1000,
        rows=[_sum_row(each, by) for each in report.sums[:SUM_ROWS_MAX]],
        rows_total=len(report.sums),
        total=_sum_row(UsageSum(counts=report.total), None),
    )


def sum_columns(by: UsageBy) -> tuple[str, ...]:
    """The fields of a row that have a value."""
    unused = {name for names in _KEYS.values() for name in names} - set(_KEYS[by])
    return tuple(name for name in UsageSumRow.__struct_fields__ if name not in unused)


def _sum_row(each: UsageSum, by: UsageBy | None) -> UsageSumRow:
    counts: UsageTotal = each.counts
    keys = {
        "tenant": each.tenant,
        "key_id": each.key_id,
        "model": each.model,
        "start_unix_s": None if each.start_ms is None else each.start_ms / 1000,
    }
    wanted = () if by is None else _KEYS[by]
    return UsageSumRow(
        **{name: value for name, value in keys.items() if name in wanted},  # type: ignore[arg-type]
        requests=counts.requests,
        failed=counts.failed,
        prompt_tokens=counts.prompt_tokens,
        completion_tokens=counts.completion_tokens,
        cached_tokens=counts.cached_tokens,
        queue_s=counts.queue_ms / 1000,
        run_s=counts.run_ms / 1000,
        cost=format_amount(counts.cost_nano),
    )
