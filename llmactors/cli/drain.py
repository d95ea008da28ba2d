"""`drain`: have a node of a cluster end in order."""

from typing import Annotated

import trio
from cyclopts import Parameter

from llmactors.cli.flags import with_settings
from llmactors.cluster.node_record import NodeRecord
from llmactors.cluster.node_store import NodeStore
from llmactors.config import Configuration, Settings
from llmactors.errors import NotFound, OperatorError, Unavailable
from llmactors.system.operator_access import cluster_nodes

_LOOK_EVERY_S = 0.1
_WATCHED_S = 3.0
"""For how long the command watches whether the node is started again. A container is back in one to two seconds."""


class NodeCameBack(OperatorError):
    """A service manager has started the node again after its drain."""

    def __init__(self, node: NodeRecord) -> None:
        super().__init__(
            f"{node.role.value} {node.name} has drained and ended, but was started again, as `restart: unless-stopped` "
            "and `Restart=always` do; stop the node there, as with `docker compose stop`: the node drains then too"
        )


@with_settings("drain")
def command(
    configuration: Configuration,
    node: Annotated[str, Parameter(help="The node's name, as `tree --cluster` shows it.")],
    /,
) -> int:
    """End a node of a cluster in order, and wait until the node has ended.

    A worker hands its requests to other workers. A gateway lets its open streams end, for up to `drain_s`. The command
    fails if a service manager starts the node again, as `restart: unless-stopped` does.
    """
    record = trio.run(drain, configuration.settings, node)
    print(f"{record.role.value} {record.name} has drained and ended")
    return 0


async def drain(settings: Settings, node: str) -> NodeRecord:
    """Asks the node to drain, and returns its record when the node has ended.

    Raises:
        NotFound: There is no such node.
        NodeCameBack: The node ended, and was started again within a few seconds.
    """
    async with cluster_nodes(settings) as store:
        record = await store.get(node)
        if record is None:
            names = ", ".join(each.name for each in await store.records()) or "none"
            raise NotFound(f'there is no node "{node}"; there are: {names}')
        await store.ask_to_drain(record)
        while await _is_there(store, record):  # noqa: ASYNC110 - the node is another process
            await trio.sleep(_LOOK_EVERY_S)
        with trio.move_on_after(_WATCHED_S):
            while not await _came_back(store, record):  # noqa: ASYNC110
                await trio.sleep(_LOOK_EVERY_S)
            raise NodeCameBack(record)
        return record


async def _came_back(store: NodeStore, record: NodeRecord) -> bool:
    try:
        present = await store.get(record.name)
    except Unavailable:
        return False
    return present is not None and present.incarnation != record.incarnation


async def _is_there(store: NodeStore, record: NodeRecord) -> bool:
    try:
        present = await store.get(record.name)
    except Unavailable:
        return True  # unknown while Redis does not answer, so wait on
    return present is not None and present.incarnation == record.incarnation
