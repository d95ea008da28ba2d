"""`/v1/operator/usage`: what ended requests have used, as sums and as records."""

import math
from typing import Annotated, Literal

import attrs
import msgspec

from llmactors.gateway.operating.parameters import read_query
from llmactors.gateway.operators import OperatedNode
from llmactors.http.exchange import Exchange
from llmactors.ledger import Ledger
from llmactors.ledger.usage import RECORDS_MAX, UsageBy, UsagePage
from llmactors.ledger.usage_rows import record_rows, sum_rows

_DAY_S = 86_400
Moment = Annotated[float, msgspec.Meta(ge=0, le=10**12)]


@attrs.frozen(kw_only=True)
class UsageQuery:
    """The query of `GET /v1/operator/usage`. Times are seconds since 1970."""

    by: Literal["tenant", "key", "model", "hour", "day"] = "tenant"
    since: Moment | None = None
    until: Moment | None = None


@attrs.frozen(kw_only=True)
class UsageRecordsQuery:
    """The query of `GET /v1/operator/usage/records`."""

    since: Moment | None = None
    until: Moment | None = None
    id: str = ""
    """The id of a request, of which alone the record is wanted, of whatever day; empty for all requests."""
    after: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=RECORDS_MAX)] = RECORDS_MAX


async def show_sums(node: OperatedNode, exchange: Exchange) -> None:
    """Shows sums of usage. By default, those of today."""
    wanted = read_query(exchange, UsageQuery)
    by = UsageBy(wanted.by)
    since_ms, until_ms = await _span(node, wanted.since, wanted.until)
    await exchange.answer(200, sum_rows(await node.ledger.usage_report(since_ms, until_ms, by), by))


async def list_records(node: OperatedNode, exchange: Exchange) -> None:
    """Shows one page of usage records. By default, those of today."""
    wanted = read_query(exchange, UsageRecordsQuery)
    if wanted.id:
        await exchange.answer(200, record_rows(await _record_of(node.ledger, wanted.id)))
        return
    since_ms, until_ms = await _span(node, wanted.since, wanted.until)
    page = await node.ledger.usage_records(since_ms, until_ms, wanted.after, wanted.limit)
    await exchange.answer(200, record_rows(page))


async def _record_of(ledger: Ledger, request_id: str) -> UsagePage:
    """A page with the record of one request, or none. Reads all records that are kept: nothing finds them by id."""
    until_ms, after = await ledger.now_ms() + 1, ""
    while True:
        page = await ledger.usage_records(0, until_ms, after, RECORDS_MAX)
        found = tuple(record for record in page.records if record.request_id == request_id)
        if found or not page.next:
            return UsagePage(found, "")
        after = page.next


async def _span(node: OperatedNode, since_s: float | None, until_s: float | None) -> tuple[int, int]:
    """The time from the beginning of today in UTC until now, in ms, where the query does not say otherwise."""
    now_ms = await node.ledger.now_ms()
    since_ms = now_ms - now_ms % (_DAY_S * 1000) if since_s is None else math.floor(since_s * 1000)
    return since_ms, now_ms + 1 if until_s is None else math.ceil(until_s * 1000)
