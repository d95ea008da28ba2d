"""The picture that `top` draws of a snapshot, for a terminal of any size. Pure."""

import datetime as dt
from collections.abc import Sequence
from typing import Literal

import attrs
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from llmactors.cli.tables import plain
from llmactors.cli.top_sources import Snapshot

WIDE = 120
"""From this width on, tables have all of their columns."""
_UNKNOWN = "-"
_GAP = 2
"""The blanks between two columns."""
_LEAST_WIDTH = 4
_STATES = {"ready": "green", "loading": "yellow", "starting": "yellow", "unloaded": "dim", "up": "green"}


@attrs.frozen
class FrameSize:
    """The room for a picture."""

    width: int
    lines: int | None
    """The most lines; None for all lines of all tables."""

    @property
    def wide(self) -> bool:
        """Whether there is room for all columns."""
        return self.width >= WIDE


@attrs.frozen
class _Column:
    title: str
    right: bool = False
    wide: bool = False
    """Whether a narrow picture leaves the column out."""
    whole: bool = False
    """Whether the cells are never cut: other commands take ids and names, and a state is one short word."""


_NODES = (
    _Column("node", whole=True),
    _Column("roles"),
    _Column("state", whole=True),
    _Column("slots", right=True),
    _Column("streams", right=True),
    _Column("stall", right=True),
    _Column("up", right=True),
    _Column("version", wide=True),
    _Column("models", right=True, wide=True),
    _Column("url", wide=True),
)
_MODELS = (
    _Column("model"),
    _Column("state", whole=True),
    _Column("slots", right=True),
    _Column("waiting", right=True),
    _Column("oldest", right=True),
    _Column("tokens/s", right=True),
    _Column("workers", right=True),
    _Column("detail", wide=True),
)
_QUEUE = (
    _Column("queue of"),
    _Column("class", right=True),
    _Column("tenant"),
    _Column("waiting", right=True),
    _Column("oldest", right=True),
    _Column("cost", right=True),
)
_REQUESTS = (
    _Column("request", whole=True),
    _Column("model"),
    _Column("tenant"),
    _Column("class", right=True, wide=True),
    _Column("state", whole=True),
    _Column("age", right=True),
    _Column("tokens", right=True),
    _Column("tries", right=True, wide=True),
    _Column("moves", right=True, wide=True),
    _Column("worker", wide=True),
)


def frame(snapshot: Snapshot, size: FrameSize, problem: str = "") -> RenderableType:
    """The picture of `snapshot`. With `problem`, the figures are old, and the picture says why."""
    parts: list[RenderableType] = [_head(snapshot), _rates(snapshot, wide=size.wide)]
    used = len(parts)
    if problem:
        parts.append(Text(plain(problem), style="bold red"))
        used += 1 + len(problem) // size.width
    rows = [
        (_NODES, _node_rows(snapshot, snapshot.unix_s)),
        (_MODELS, _model_rows(snapshot)),
        (_QUEUE, _queue_rows(snapshot)),
        (_REQUESTS, _request_rows(snapshot)),
    ]
    shown = [(columns, found) for columns, found in rows if found]
    room = _shares([len(found) for _, found in shown], None if size.lines is None else size.lines - used)
    for (columns, found), most in zip(shown, room, strict=True):
        parts += [Text(""), _table(columns, found[:most], size)]
        if len(found) > most:
            parts.append(Text(f"… and {len(found) - most} more", style="dim"))
    if snapshot.requests_total == 0:
        parts += [Text(""), Text("no request is under way", style="dim")]
    return Group(*parts)


def _head(snapshot: Snapshot) -> Text:
    at = dt.datetime.fromtimestamp(snapshot.unix_s, dt.UTC).strftime("%H:%M:%S UTC")
    queue, requests = snapshot.queue, snapshot.requests
    parts = [plain(snapshot.source), at]
    if requests is not None and snapshot.requests_total is not None:
        waiting = sum(row.waiting for row in queue or ())
        parts.append(f"running {max(0, snapshot.requests_total - waiting)}  waiting {waiting}")
    head = Text("llmactors top", style="bold")
    head.append("  " + "  ".join(parts), style="not bold")
    return head


def _rates(snapshot: Snapshot, *, wide: bool) -> Text:
    rates = snapshot.rates
    tokens = sum(model.tokens_per_s for model in snapshot.models or ()) or rates.tokens_per_s
    parts = [
        f"tokens/s {_number(tokens)}",
        f"requests/s {_number(rates.requests_per_s)}",
        f"first token {_time(rates.ttft_p50_s)} p50 {_time(rates.ttft_p99_s)} p99",
    ]
    if wide:
        parts += [
            f"between tokens {_time(rates.inter_token_p50_s)} p50 {_time(rates.inter_token_p99_s)} p99",
            f"queue {_time(rates.queue_wait_p50_s)} p50 {_time(rates.queue_wait_p99_s)} p99",
        ]
    return Text("  ".join(parts))


def _node_rows(snapshot: Snapshot, now: float) -> list[tuple[str, ...]]:
    return [
        (
            node.name,
            "+".join(node.roles),
            "drained" if node.cordoned else "draining" if node.draining else "up",
            f"{node.slots_busy}/{node.slots}" if node.slots else _UNKNOWN,
            str(node.followed_streams),
            _time(node.loop_stall_s),
            _age(now - node.started_unix_s),
            node.version,
            str(len(node.models)),
            node.url,
        )
        for node in snapshot.nodes
    ]


def _model_rows(snapshot: Snapshot) -> list[tuple[str, ...]]:
    return [
        (
            model.name,
            model.state,
            f"{model.slots_busy}/{model.slots}",
            str(model.waiting),
            _age(model.oldest_wait_s) if model.waiting else _UNKNOWN,
            _number(model.tokens_per_s),
            str(model.workers),
            model.detail,
        )
        for model in snapshot.models or ()
    ]


def _queue_rows(snapshot: Snapshot) -> list[tuple[str, ...]]:
    return [
        (row.model, str(row.class_), row.tenant, str(row.waiting), _age(row.oldest_wait_s), f"{row.cost_tokens:.0f}")
        for row in snapshot.queue or ()
    ]


def _request_rows(snapshot: Snapshot) -> list[tuple[str, ...]]:
    return [
        (
            row.id,
            row.model,
            row.tenant,
            str(row.class_),
            row.state,
            _age(row.age_s),
            str(row.tokens),
            str(row.attempts),
            str(row.takeovers),
            row.worker or _UNKNOWN,
        )
        for row in snapshot.requests or ()
    ]


def _shares(wanted: Sequence[int], lines: int | None) -> list[int]:
    """How many rows each table gets. The first tables are cut to a quarter of the lines, and the last gets the rest."""
    if lines is None:
        return [*wanted]
    found: list[int] = []
    for place, count in enumerate(wanted):
        lines -= 2  # an empty line, and the titles
        is_last = place == len(wanted) - 1
        most = max(1, lines - 1 if is_last else lines // (len(wanted) - place))
        found.append(count if count <= most + is_last else max(1, most - (not is_last)))
        lines -= min(count, found[-1] + 1)
    return found


def _table(columns: Sequence[_Column], rows: Sequence[tuple[str, ...]], size: FrameSize) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold cyan")
    places = [place for place, column in enumerate(columns) if size.wide or not column.wide]
    widths = _widths(
        [columns[place] for place in places], [[row[place] for row in rows] for place in places], size.width
    )
    for place, width in zip(places, widths, strict=True):
        column = columns[place]
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.title, justify=justify, no_wrap=True, overflow="ellipsis", width=width)
    for row in rows:
        table.add_row(*(Text(plain(row[place]), style=_STATES.get(row[place], "")) for place in places))
    return table


def _widths(columns: Sequence[_Column], cells: Sequence[Sequence[str]], room: int) -> list[int]:
    """How wide each column is. Where they do not fit, the widest columns of names get narrower: figures are not cut."""
    widths = [
        max(map(cell_len, (column.title, *map(plain, texts)))) for column, texts in zip(columns, cells, strict=True)
    ]
    names = [place for place, column in enumerate(columns) if not (column.whole or column.right)]
    excess = sum(widths) + _GAP * (len(widths) - 1) - room
    while excess > 0 and names:
        widest = max(names, key=widths.__getitem__)
        if widths[widest] <= _LEAST_WIDTH:
            break
        widths[widest] -= 1
        excess -= 1
    return widths


def _number(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return _UNKNOWN
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"


def _age(seconds: float) -> str:
    whole = max(0, int(seconds))
    for size, unit, smaller, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller}{small}"
    return f"{max(0.0, seconds):.1f}s" if seconds < 10 else f"{whole}s"
