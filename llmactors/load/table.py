"""The report as a table for people."""

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

_ROWS = (
    ("latency_s", "latency, ms", 1e3),
    ("ttft_s", "first token after, ms", 1e3),
    ("token_gap_s", "between tokens, ms", 1e3),
    ("steady_gap_s", "  while all streams run", 1e3),
    ("read_gap_s", "between reads, ms", 1e3),
    ("tokens_per_chunk", "tokens per chunk", 1.0),
    ("refusal_s", "refused after, ms", 1e3),
)
_COLUMNS = ("mean", "p50", "p90", "p95", "p99", "p99.9", "max")


def show(result: dict[str, Any], console: Console) -> None:
    """Prints a report."""
    console.print(rendered(result))


def rendered(result: dict[str, Any]) -> RenderableType:
    """The whole report."""
    lines = [_headline(result)]
    if "note" in result:
        lines.append(Text(result["note"], style="yellow"))
    after = [Text(line) for line in _costs(result)]
    after += [Text(f"failed: {count} x {kind}", style="bold red") for kind, count in result["errors"].items()]
    after += [Text(f"  of these {count} x {code}", style="red") for code, count in result["error_codes"].items()]
    after += [Text(f"  {example}", style="red") for example in result["examples"]]
    if result["ended"] == "interrupted":
        after.append(Text(f"stopped by hand, with {result['interrupted']} requests under way", style="yellow"))
    after += [Text(f"note: {warning}", style="yellow") for warning in result.get("warnings", ())]
    return Group(*lines, *_table(result), *after)


def _headline(result: dict[str, Any]) -> Text:
    correct, failed = result["correct"], result["failed"]
    right = "right, token by token" if result["plan"]["oracle"] else "whole"
    return Text.assemble(
        (f"{correct:,} of {correct + failed:,} answers {right}", "bold green" if not failed else "bold red"),
        f" in {result['seconds']:.2f} s: ",
        (f"{result['requests_per_s']:,.1f} requests/s, {result['tokens_per_s']:,.0f} tokens/s", "bold"),
    )


def _table(result: dict[str, Any]) -> Iterator[Table]:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right", style="cyan" if name in {"p50", "p99"} else None)
    for key, title, scale in _ROWS:
        values = result[key]
        if values:
            table.add_row(title, *(_number(values[name] * scale) for name in _COLUMNS))
    if table.row_count:
        yield table


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _costs(result: dict[str, Any]) -> Iterator[str]:
    if "server" in result:
        server = result["server"]
        yield (
            f"server: {server['cpu_ms_per_request']:.2f} ms of CPU per request, {server['cpu_us_per_token']:.1f} us "
            f"per token, {server['busy']:.0%} of a core, {server['resident_bytes'] / 2**20:.0f} MiB; it waited "
            f"{server['waited']:.0%} of the time for other processes"
        )
    client = result["client"]
    name = client.get("name", "this client")
    cores = client["cores"]
    where = f"core {cores[0]}" if len(cores) == 1 else f"any of {len(cores)} cores"
    yield f"{name}: {client['busy']:.0%} of a core, on {where}"
    if "open_loop" in result:
        loop = result["open_loop"]
        late = f", sent {loop['late_s']['p99'] * 1e3:.1f} ms late at p99" if loop["late_s"] else ""
        yield f"open loop: {loop['sent']:,} requests at {loop['rate']:g}/s{late}"
