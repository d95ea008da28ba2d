"""`tree`: the supervision tree of a running node, or of all nodes of a cluster."""

import contextlib
import datetime as dt
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

import msgspec
import rich.tree
import trio
from cyclopts import Parameter
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.text import Text

from llmactors.cli import tables
from llmactors.cli.client import API_KEY, URL, ask, node_client
from llmactors.cli.flags import with_settings
from llmactors.cli.live import EVERY, every_s, is_terminal, show_live
from llmactors.cluster.cordon import Cordon
from llmactors.cluster.node_record import NodeRecord, Role
from llmactors.config import Configuration, Settings
from llmactors.errors import LlmactorsError
from llmactors.system.operator_access import cluster_nodes

_COLOURS = {"running": "green", "starting": "yellow", "restarting": "red", "stopping": "yellow", "stopped": "dim"}


@with_settings("tree")
def command(
    configuration: Configuration,
    *,
    url: URL = "http://127.0.0.1:8000",
    api_key: API_KEY = None,
    cluster: Annotated[
        bool,
        Parameter(help="Show all nodes of a cluster, as its Redis server knows them.", negative=(), show_default=False),
    ] = False,
    watch: Annotated[
        bool, Parameter(help="Draw the tree again every second. q leaves.", negative=(), show_default=False)
    ] = False,
    every: EVERY = "1s",
    as_json: tables.AS_JSON = False,
) -> int:
    """Show the actors of a running node, or of all nodes of a cluster.

    Each actor is shown with its incarnation, its restarts, its mailbox, and how its last incarnation ended.
    """
    interval_s = every_s(every)
    opened = _of_cluster(configuration.settings) if cluster else _of_node(url, api_key)
    if watch and not as_json and is_terminal():
        return trio.run(_watch, opened, interval_s)
    picture, document = trio.run(_look_once, opened)
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        tables.show_all(picture)
    return 0


Look = Callable[[], Awaitable[tuple[RenderableType, object]]]
"""Returns the picture of the trees now, and the same as JSON."""


async def _watch(opened: AbstractAsyncContextManager[Look], interval_s: float) -> int:
    async with opened as look:
        last: RenderableType | None = None

        async def draw(_console: Console) -> RenderableType:
            nonlocal last
            try:
                last, _ = await look()
            except LlmactorsError as error:
                if last is None:
                    raise
                return Group(Text(tables.plain(str(error)), style="bold red"), last)
            return last

        return await show_live(draw, interval_s)


async def _look_once(opened: AbstractAsyncContextManager[Look]) -> tuple[RenderableType, object]:
    async with opened as look:
        return await look()


@contextlib.asynccontextmanager
async def _of_node(url: str, api_key: str | None) -> AsyncIterator[Look]:
    with contextlib.closing(node_client(url, api_key)) as client:

        async def look() -> tuple[RenderableType, object]:
            root = await ask(client, url, "GET", "/v1/tree")
            return _render(root), root

        yield look


@contextlib.asynccontextmanager
async def _of_cluster(settings: Settings) -> AsyncIterator[Look]:
    async with cluster_nodes(settings) as store:

        async def look() -> tuple[RenderableType, object]:
            records = await store.records()
            nodes = [(record, await store.tree(record.name)) for record in records]
            cordons = {each.name: await store.cordon_of(each.name) for each in records if each.cordoned}
            found = [{"node": msgspec.to_builtins(record), "tree": tree} for record, tree in nodes]
            branches = [_node_branch(record, tree, cordons.get(record.name)) for record, tree in nodes]
            return Group(*branches) if branches else Text("no node is running"), found

        yield look


def _node_branch(record: NodeRecord, tree: Any, cordon: Cordon | None) -> rich.tree.Tree:
    branch = rich.tree.Tree(_node_label(record, cordon, time.time()))
    if tree is not None:
        branch.add(_render(tree))
    return branch


def _node_label(record: NodeRecord, cordon: Cordon | None, now: float) -> str:
    age = dt.timedelta(seconds=round(max(0.0, now - record.started_at)))
    parts = [f"[bold]{escape(record.name)}[/bold]", record.role.value, f"up {age}"]
    if record.cordoned:
        ends = None if cordon is None else cordon.until_unix_s
        until = "" if ends is None else f" until {dt.datetime.fromtimestamp(ends, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
        parts.append(f"[yellow]drained by an operator{until}[/yellow]")
    elif record.draining:
        parts.append("[yellow]draining[/yellow]")
    if record.role is Role.WORKER:
        parts.append(f"running {record.load.running}/{record.load.slots}")
        parts += [f"{escape(model.name)} {model.state.value}" for model in record.models]
    parts += [record.address] if record.address else []
    parts.append(f"[dim]{escape(record.process.host)}, pid {record.process.pid}, {record.version}[/dim]")
    return "  ".join(parts)


def _render(node: Any) -> rich.tree.Tree:
    branch = rich.tree.Tree(_label(node))
    for child in node.get("children", ()):
        branch.add(_render(child))
    return branch


def _label(node: dict[str, Any]) -> str:
    colour = _COLOURS.get(node["state"], "white")
    parts = [f"[bold]{escape(node['name'])}[/bold] [{colour}]{node['state']}[/{colour}]"]
    if "children" in node:
        used = f"{node['recent_restarts']}/{node['intensity']} restarts in {node['period_s']:g} s"
        parts.append(f"[dim]{node['strategy']}, {used}[/dim]")
    else:
        mailbox = node["mailbox"]
        parts.append(f"#{node['incarnation']}")
        parts.append(f"mailbox {mailbox['depth']}/{mailbox['capacity']} (peak {mailbox['peak']})")
        parts.append(f"[dim]handled {node['handled']}[/dim]")
        if node["in_hand_s"] > 1:
            parts.append(f"[red]busy for {node['in_hand_s']:.0f} s[/red]")
    if node["restarts"]:
        parts.append(f"[red]restarts {node['restarts']}[/red] [dim]({escape(node['last_exit'])})[/dim]")
    return "  ".join(parts)
