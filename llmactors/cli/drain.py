"""`drain`: have a node of a cluster end in order."""

from typing import Annotated

import trio
from cyclopts import Parameter

from llmactors.cli.flags import with_settings
from llmactors.cluster.node_record import NodeRecord
from llmactors.cluster.node_store import NodeStore
from llmactors.config import Configuration, Settings
from llmactors.errors import NotFound, Unavailable
from llmactors.system.operator_access import cluster_nodes

_LOOK_EVERY_S = 0.1


@with_settings("drain")
def command(
    configuration: Configuration,
    node: Annotated[str, Parameter(help="The node's name, as `tree --cluster` shows it.")],
    /,
) -> int:
    """End a node of a cluster in order, and wait until the node has ended.

    A worker hands its requests to other workers. A gateway lets its open streams end, for up to `drain_s`.
    """
    record = trio.run(_drain, configuration.settings, node)
    print(f"{record.role.value} {record.name} has drained and ended")
    return 0


async def _drain(settings: Settings, node: str) -> NodeRecord:
    """Asks the node to drain, and returns its record when the node has ended."""
    async with cluster_nodes(settings) as store:
        record = await store.get(node)
        if record is None:
            names = ", ".join(each.name for each in await store.records()) or "none"
            raise NotFound(f'there is no node "{node}"; there are: {names}')
        await store.ask_to_drain(record)
        while await _is_there(store, record):  # noqa: ASYNC110 - the node is another process
            await trio.sleep(_LOOK_EVERY_S)
        return record


async def _is_there(store: NodeStore, record: NodeRecord) -> bool:
    try:
        present = await store.get(record.name)
    except Unavailable:
        return True  # unknown while Redis does not answer, so wait on
    return present is not None and present.incarnation == record.incarnation
