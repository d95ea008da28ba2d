"""`reload`: have running nodes read their settings again."""

from typing import Annotated

import trio
from cyclopts import Parameter

from llmactors.cli.client import API_KEY, URL, post_json
from llmactors.cli.flags import with_settings
from llmactors.config import Configuration, Settings
from llmactors.errors import NotFound
from llmactors.system.operator_access import cluster_nodes

RELOAD_PATH = "/v1/operator/reload"


@with_settings("reload")
def command(
    configuration: Configuration,
    node: Annotated[str | None, Parameter(help="A node of a cluster. By default, all nodes of the cluster.")] = None,
    /,
    *,
    url: URL = "http://127.0.0.1:8000",
    api_key: API_KEY = None,
) -> int:
    """Have running nodes read their settings again, and change those that can change while a node runs.

    Each node reads its own file, variables and flags. With --redis, the nodes of a cluster are asked, and their logs
    say what has changed. Otherwise the node at --url is asked, and the command prints what has changed there.
    """
    if configuration.settings.redis is None:
        print(_sentence(post_json(url, RELOAD_PATH, api_key)))
        return 0
    asked = trio.run(ask_to_reload, configuration.settings, node)
    print(f"asked {', '.join(asked) or 'no node'} to reload; the log of each node says what has changed")
    return 0


async def ask_to_reload(settings: Settings, node: str | None = None) -> list[str]:
    """Asks a node of the cluster, or all of them for None, and returns their names.

    Raises:
        NotFound: No such node runs.
    """
    async with cluster_nodes(settings) as store:
        names = [record.name for record in await store.records()]
        if node is not None and node not in names:
            raise NotFound(f'there is no node "{node}"; there are: {", ".join(names) or "none"}')
        asked = names if node is None else [node]
        for name in asked:
            await store.ask_to_reload(name)
        return asked


def _sentence(answer: object) -> str:
    if not isinstance(answer, dict):
        return "the node has read its settings again"
    changed = [f"{name}: {old} -> {new}" for name, (old, new) in answer["changed"].items()]
    fixed = [f"{name} changes only at a restart" for name in answer["fixed"]]
    return "\n".join([*changed, *fixed]) or "no setting has changed"
