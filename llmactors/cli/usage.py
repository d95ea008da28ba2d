"""Show who has used how much and what it cost, and export the records of requests.

The node at --url is asked with the key of an operator; with --redis, the ledger of a cluster is read.
"""

import csv
import datetime as dt
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import cyclopts
import msgspec
import trio
from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from llmactors.cli import tables
from llmactors.cli.client import API_KEY, NODE_URL, get_json, node_or_cluster
from llmactors.cli.descriptors import complain
from llmactors.cli.flags import with_settings
from llmactors.config import Configuration, Settings, parse_duration
from llmactors.errors import ConfigError, Unavailable
from llmactors.ledger.usage import RECORDS_MAX, UsageBy, UsagePage, UsageReport
from llmactors.ledger.usage_rows import (
    UsageRecordRow,
    UsageRecordRows,
    UsageSumRow,
    UsageSumRows,
    record_rows,
    sum_columns,
    sum_rows,
)
from llmactors.system.operator_access import cluster_ledger

app = cyclopts.App(name="usage", help=__doc__)

SUMS_PATH = "/v1/operator/usage"
RECORDS_PATH = "/v1/operator/usage/records"
By = Literal["tenant", "key", "model", "hour", "day"]

SINCE = Annotated[
    str,
    Parameter(
        help="From when on: a day or a time of UTC, as in 2026-11-29 or 2026-11-29T10:00, `today`, or how long ago, as "
        "in 24h or 7d."
    ),
]
UNTIL = Annotated[str | None, Parameter(help="Until when, in the same forms. By default, until now.")]


@app.default
@app.command(name="show")
@with_settings("usage")
def show(
    configuration: Configuration,
    *,
    by: Annotated[By, Parameter(help="What the sums are made by.")] = "tenant",
    since: SINCE = "today",
    until: UNTIL = None,
    as_json: tables.AS_JSON = False,
    url: NODE_URL = None,
    api_key: API_KEY = None,
) -> int:
    """Show sums of what was used. `usage` alone does the same."""
    source = _Source(*node_or_cluster(configuration, url), api_key)
    found = source.sums(*_span(since, until), by)
    if as_json:
        tables.show_json(found)
        return 0
    columns = sum_columns(UsageBy(by))
    table = Table(*(name.removesuffix("_unix_s").replace("_", " ") for name in columns))
    for row in (*found.rows, found.total):
        table.add_row(*(escape(_cell(row, name, is_total=row is found.total)) for name in columns))
    if found.rows:
        tables.show(table)
    print(f"{_time(found.since_unix_s)} to {_time(found.until_unix_s)} UTC: {found.total.requests} requests")
    if found.rows_total > len(found.rows):
        print(f"{found.rows_total - len(found.rows)} more rows are only in the total")
    return 0


@app.command(name="export")
@with_settings("usage")
def export(
    configuration: Configuration,
    *,
    form: Annotated[
        Literal["csv", "jsonl"],
        Parameter(name="--format", help="A table with a header, or a JSON object in each line."),
    ] = "csv",
    by: Annotated[
        By | None, Parameter(help="Export sums by this. By default, a row for each request that is still recorded.")
    ] = None,
    since: SINCE = "today",
    until: UNTIL = None,
    url: NODE_URL = None,
    api_key: API_KEY = None,
) -> int:
    """Write a row for each request, or sums, to standard output."""
    source = _Source(*node_or_cluster(configuration, url), api_key)
    begin_s, end_s = _span(since, until)
    if by is None:
        _write(form, _fields_of(UsageRecordRow), source.records(begin_s, end_s))
    else:
        found = source.sums(begin_s, end_s, by)
        _write(form, sum_columns(UsageBy(by)), found.rows)
        if found.rows_total > len(found.rows):
            complain(f"only the first {len(found.rows)} of {found.rows_total} rows were written; ask for less time")
    return 0


class _Source:
    """Where usage is read: at a node, or in the Redis of a cluster."""

    def __init__(self, settings: Settings, url: str, api_key: str | None) -> None:
        self._settings = settings
        self._url = url
        self._api_key = api_key

    def sums(self, since_s: float, until_s: float, by: By) -> UsageSumRows:
        """Sums of the time from `since_s` to `until_s`."""
        if self._settings.redis is None:
            found: UsageSumRows = self._ask(SUMS_PATH, UsageSumRows, by=by, since=since_s, until=until_s)
            return found
        return sum_rows(trio.run(self._report, since_s, until_s, by), UsageBy(by))

    def records(self, since_s: float, until_s: float) -> Iterator[UsageRecordRow]:
        """The record of each request that ended in the time, the oldest first."""
        after: str | None = ""
        while after is not None:
            if self._settings.redis is None:
                query = {"after": after} if after else {}
                page = self._ask(RECORDS_PATH, UsageRecordRows, since=since_s, until=until_s, **query)
            else:
                page = record_rows(trio.run(self._page, since_s, until_s, after))
            yield from page.records
            after = page.next

    async def _report(self, since_s: float, until_s: float, by: By) -> UsageReport:
        async with cluster_ledger(self._settings) as ledger:
            return await ledger.usage_report(round(since_s * 1000), round(until_s * 1000), UsageBy(by))

    async def _page(self, since_s: float, until_s: float, after: str) -> UsagePage:
        async with cluster_ledger(self._settings) as ledger:
            return await ledger.usage_records(round(since_s * 1000), round(until_s * 1000), after, RECORDS_MAX)

    def _ask(self, path: str, kind: type[Any], **query: object) -> Any:
        answer = get_json(self._url, f"{path}?{urlencode(query)}", self._api_key)
        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError as error:
            raise Unavailable(f"{self._url}{path} answered with another form of JSON: {error}") from error


def _span(since: str, until: str | None) -> tuple[float, float]:
    now_s = time.time()
    begin_s, end_s = _moment(since, "since", now_s), now_s + 1 if until is None else _moment(until, "until", now_s)
    if begin_s >= end_s:
        raise ConfigError(f"`since` {since} is not before `until` {until or 'now'}")
    return begin_s, end_s


def _moment(text: str, name: str, now_s: float) -> float:
    if text == "today":
        return now_s - now_s % 86_400
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        try:
            return max(0.0, now_s - parse_duration(text, name))
        except ConfigError:
            raise ConfigError(
                f"`{name}` must be `today`, a day or time as in 2026-11-29 or 2026-11-29T10:00, or how long ago, as in "
                f"24h or 7d, not {text!r}"
            ) from None
    return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp())


def _fields_of(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return kind.__struct_encode_fields__


def _write(form: str, columns: Sequence[str], rows: Iterable[msgspec.Struct]) -> None:
    wanted = set(columns)
    builtins = ({name: value for name, value in msgspec.to_builtins(row).items() if name in wanted} for row in rows)
    if form == "jsonl":
        for row in builtins:
            sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
        return
    table = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(builtins)


def _cell(row: UsageSumRow, name: str, *, is_total: bool) -> str:
    value = getattr(row, name)
    if value is None:
        return "total" if is_total else ""
    if name == "start_unix_s":
        return _time(value)
    if name.endswith("_s"):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else value or "-"


def _time(unix_s: float) -> str:
    return dt.datetime.fromtimestamp(unix_s, dt.UTC).strftime("%Y-%m-%d %H:%M")
