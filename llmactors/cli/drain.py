"""`drain`: have a node of a cluster take no more work, until `uncordon` or for a time."""

from typing import Annotated

import attrs
import trio
from cyclopts import Parameter

from llmactors.cli.flags import with_settings
from llmactors.cluster.node_record import NodeRecord
from llmactors.cluster.node_store import NodeStore
from llmactors.config import Configuration, Settings, parse_duration
from llmactors.errors import NotFound, Unavailable
from llmactors.system.cluster_node import has_lasting_name
from llmactors.system.operator_access import cluster_nodes

_LOOK_EVERY_S = 0.1


@attrs.frozen
class Drained:
    """The state of a node at the end of the wait for its drain."""

    node: NodeRecord
    heard: bool
    """Whether the node has said that it takes no more work. An ended node hears of its cordon when it starts."""
    left: int
    """How many requests the node still runs, or how many answers it still sends."""


@with_settings("drain")
def command(
    configuration: Configuration,
    node: Annotated[str, Parameter(help="The node's name, as `tree --cluster` shows it.")],
    /,
    *,
    for_: Annotated[
        str | None, Parameter(name="--for", help="The node takes work again after this time, as in 1h or 30min.")
    ] = None,
    wait: Annotated[str, Parameter(help="How long to wait until the node holds nothing, as in 30s.")] = "30s",
) -> int:
    """Have a node of a cluster take no more work, until `uncordon NODE` or for a time.

    A worker hands its requests to other workers at once, and keeps its models in memory. A gateway refuses new
    requests, is not ready, and sends its open answers to their end. The node goes on running. If its service manager
    starts the node again, the node is still drained.
    """
    for_s = None if for_ is None else parse_duration(for_, "for")
    found = trio.run(drain, configuration.settings, node, for_s, parse_duration(wait, "wait"))
    print(_sentence(found, for_))
    if not has_lasting_name(found.node):
        print(
            f"{node} is no lasting name: if the node restarts, it has another name and takes work; start it by --name"
        )
    return 0 if found.heard else 1


async def drain(settings: Settings, node: str, for_s: float | None = None, wait_s: float = 30.0) -> Drained:
    """Gives the node a cordon, and waits up to `wait_s` seconds until the node holds nothing.

    Raises:
        NotFound: No such node runs.
    """
    async with cluster_nodes(settings) as store:
        record = await store.get(node)
        if record is None:
            names = ", ".join(each.name for each in await store.records()) or "none"
            raise NotFound(f'there is no node "{node}"; there are: {names}')
        await store.cordon(node, for_s)
        found = Drained(record, heard=False, left=1)
        with trio.move_on_after(wait_s):
            while not found.heard or found.left:
                await trio.sleep(_LOOK_EVERY_S)
                found = await _look(store, found)
        return found


async def _look(store: NodeStore, before: Drained) -> Drained:
    try:
        record = await store.get(before.node.name)
    except Unavailable:
        return before  # unknown while Redis does not answer
    if record is None:
        return Drained(before.node, heard=True, left=0)
    return Drained(record, record.cordoned, record.load.running + record.load.followed_streams)


def _sentence(found: Drained, for_: str | None) -> str:
    node = f"{found.node.role.value} {found.node.name}"
    until = f"for {for_}" if for_ else f"until `uncordon {found.node.name}`"
    if not found.heard:
        return (
            f"{node} has not answered: it is to take no work {until}, but runs version {found.node.version}, or hangs"
        )
    if found.left:
        return f"{node} takes no work {until}; {found.left} of its requests go on to their ends"
    return f"{node} is drained, and takes no work {until}"
