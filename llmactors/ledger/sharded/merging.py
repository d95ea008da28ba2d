"""What the shards of a ledger answer together: sums, pages and lists. Pure."""

import heapq
from collections.abc import Iterable, Sequence

import attrs

from llmactors.ledger.core.usage_spans import order_of
from llmactors.ledger.inspection import OPEN_REQUESTS_SHOWN, QueueShare, RequestView, RequestViews, oldest_first
from llmactors.ledger.usage import UsageRecord, UsageReport, UsageSum, UsageTotal, not_a_cursor
from llmactors.ledger.values import DeadRequest, LedgerStatistics, ModelDemand, QueueDepth

EXHAUSTED = "x"
"""Stands for the cursor of a shard that has no more records."""


def sum_statistics(found: Iterable[LedgerStatistics]) -> LedgerStatistics:
    """All counts added up. A worker has a lease on each shard, and is counted once."""
    each = list(found)
    names = attrs.fields_dict(LedgerStatistics)
    sums = {name: sum(getattr(one, name) for one in each) for name in names}
    return LedgerStatistics(**sums | {"workers": max(one.workers for one in each)})


def sum_depths(found: Iterable[Sequence[QueueDepth]]) -> list[QueueDepth]:
    """The lengths of each queue added up."""
    lengths: dict[tuple[str, int], int] = {}
    for depth in (depth for depths in found for depth in depths):
        lengths[depth.model, depth.priority] = lengths.get((depth.model, depth.priority), 0) + depth.waiting
    return sorted(QueueDepth(*queue, waiting) for queue, waiting in lengths.items())


def sum_demand(found: Iterable[Sequence[ModelDemand]]) -> list[ModelDemand]:
    """What waits in each queue, with the longest wait of any shard."""
    queues: dict[tuple[str, int], ModelDemand] = {}
    for each in (each for demands in found for each in demands):
        before = queues.get((each.model, each.priority))
        if before is not None:
            oldest_s = max(before.oldest_s, each.oldest_s)
            each = ModelDemand(each.model, each.priority, before.waiting + each.waiting, oldest_s)  # noqa: PLW2901
        queues[each.model, each.priority] = each
    return sorted(queues.values())


def sum_shares(found: Iterable[Sequence[QueueShare]]) -> list[QueueShare]:
    """What each tenant has waiting, added up."""
    shares: dict[tuple[str, int, str], QueueShare] = {}
    for each in (each for some in found for each in some):
        before = shares.get(each.key)
        if before is not None:
            each = attrs.evolve(  # noqa: PLW2901
                each,
                waiting=before.waiting + each.waiting,
                cost=before.cost + each.cost,
                oldest_s=max(before.oldest_s, each.oldest_s),
            )
        shares[each.key] = each
    return oldest_first(shares.values())


def merge_views(found: Iterable[RequestViews], limit: int) -> RequestViews:
    """The oldest of the requests that the shards show."""
    each = list(found)
    shown = heapq.nlargest(min(limit, OPEN_REQUESTS_SHOWN), (view for views in each for view in views.shown), key=_age)
    return RequestViews(tuple(shown), sum(views.total for views in each))


def _age(view: RequestView) -> float:
    return view.age_s


def merge_dead_letters(found: Iterable[Sequence[DeadRequest]], kept: int) -> list[DeadRequest]:
    """The newest dead letters of all shards, oldest first."""
    letters = sorted((letter for letters in found for letter in letters), key=lambda letter: letter.at_ms)
    return letters[max(0, len(letters) - kept) :]


def cursors_of(after: str, shards: int) -> list[str]:
    """The cursor of each shard in the cursor of a page of all shards. Raises `InvalidRequest`."""
    cursors = after.split(".") if after else [""] * shards
    if len(cursors) != shards:
        raise not_a_cursor(after)
    return cursors


def oldest_records(pages: Sequence[Sequence[UsageRecord]], limit: int) -> tuple[list[UsageRecord], list[int]]:
    """The oldest `limit` records of all shards, and how many of them are from each shard."""
    entries = [
        (record.ended_ms, shard, number) for shard, page in enumerate(pages) for number, record in enumerate(page)
    ]
    taken = sorted(entries)[:limit]
    counts = [0] * len(pages)
    for _, shard, _ in taken:
        counts[shard] += 1
    return [pages[shard][number] for _, shard, number in taken], counts


def sum_reports(reports: Sequence[UsageReport]) -> UsageReport:
    """The sums of all shards added up, in the order of one shard's report: the most tokens first, or by time."""
    sums: dict[tuple[str, str, str, int | None], UsageTotal] = {}
    for each in (each for report in reports for each in report.sums):
        row = each.tenant, each.key_id, each.model, each.start_ms
        sums[row] = sums.get(row, UsageTotal()) + each.counts
    rows = [
        UsageSum(tenant=tenant, key_id=key_id, model=model, start_ms=start_ms, counts=counts)
        for (tenant, key_id, model, start_ms), counts in sums.items()
    ]
    rows.sort(key=order_of)
    since_ms, until_ms = min(each.since_ms for each in reports), max(each.until_ms for each in reports)
    return UsageReport(since_ms, until_ms, tuple(rows))
