"""`tree`: the supervision tree of a running node."""

import json
from typing import Annotated, Any

import rich.tree
from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape

from llmactors.cli.client import API_KEY, URL, get_json

_COLOURS = {"running": "green", "starting": "yellow", "restarting": "red", "stopping": "yellow", "stopped": "dim"}


def command(
    *,
    url: URL = "http://127.0.0.1:8000",
    api_key: API_KEY = None,
    as_json: Annotated[bool, Parameter(name="--json", help="As one JSON object.")] = False,
) -> int:
    """Show a running node's actors: incarnations, restarts, mailbox depths, and how the last incarnation ended."""
    root = get_json(url, "/v1/tree", api_key)
    if as_json:
        print(json.dumps(root, indent=2))
    else:
        Console(highlight=False).print(_render(root))
    return 0


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
