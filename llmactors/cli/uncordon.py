"""`uncordon`: have a drained node of a cluster take work again."""

from typing import Annotated

import trio
from cyclopts import Parameter

from llmactors.cli.flags import with_settings
from llmactors.config import Configuration, Settings
from llmactors.errors import NotFound
from llmactors.system.operator_access import cluster_nodes


@with_settings("uncordon")
def command(
    configuration: Configuration,
    node: Annotated[str, Parameter(help="The node's name, as `tree --cluster` shows it.")],
    /,
) -> int:
    """Have a drained node of a cluster take work again. The node need not run."""
    trio.run(uncordon, configuration.settings, node)
    print(f"{node} takes work again")
    return 0


async def uncordon(settings: Settings, node: str) -> None:
    """Removes the cordon of a node. Raises `NotFound` where there is neither such a cordon nor such a node."""
    async with cluster_nodes(settings) as store:
        if not await store.uncordon(node) and await store.get(node) is None:
            names = ", ".join(each.name for each in await store.records()) or "none"
            raise NotFound(f'no node "{node}" is drained or runs; there are: {names}')
