"""`tree`: the supervision tree of a running node, or of all nodes of a cluster."""

import datetime as dt
import json
import time
from typing import Annotated, Any

import msgspec
import rich.tree
import trio
from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape

from llmactors.cli.client import API_KEY, URL, get_json
from llmactors.cli.flags import with_settings
from llmactors.cluster.node_record import NodeRecord, Role
from llmactors.config import Configuration, Settings
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
    as_json: Annotated[bool, Parameter(name="--json", help="Print one JSON object.", show_default=False)] = False,
) -> int:
    """Show the actors of a running node, or of all nodes of a cluster.

    Each actor is shown with its incarnation, its restarts, its mailbox, and how its last incarnation ended.
    """
    if cluster:
        return _show_cluster(configuration.settings, as_json=as_json)
    root = get_json(url, "/v1/tree", api_key)
    if as_json:
        print(json.dumps(root, indent=2))
    else:
        Console(highlight=False).print(_render(root))
    return 0


def _show_cluster(settings: Settings, *, as_json: bool) -> int:
    nodes = trio.run(_nodes_and_trees, settings)
    if as_json:
        found = [{"node": msgspec.to_builtins(record), "tree": tree} for record, tree in nodes]
        print(json.dumps(found, indent=2))
        return 0
    console = Console(highlight=False)
    if not nodes:
        console.print("no node is running")
    for record, tree in nodes:
        branch = rich.tree.Tree(_node_label(record, time.time()))
        if tree is not None:
            branch.add(_render(tree))
        console.print(branch)
    return 0


async def _nodes_and_trees(settings: Settings) -> list[tuple[NodeRecord, Any]]:
    async with cluster_nodes(settings) as store:
        return [(record, await store.tree(record.name)) for record in await store.records()]


def _node_label(record: NodeRecord, now: float) -> str:
    age = dt.timedelta(seconds=round(max(0.0, now - record.started_at)))
    parts = [f"[bold]{escape(record.name)}[/bold]", record.role.value, f"up {age}"]
    if record.cordoned:
        parts.append("[yellow]drained by an operator[/yellow]")
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
