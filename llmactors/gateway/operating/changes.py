"""`/v1/operator/nodes/{name}/drain`, `…/uncordon` and `/v1/operator/reload`: what operators change of running nodes."""

from collections.abc import Mapping
from typing import Annotated, Any

import attrs
import msgspec

from llmactors.errors import ConfigError, InvalidRequest, NotFound
from llmactors.gateway.operating.parameters import read_body
from llmactors.gateway.operators import OperatedNode
from llmactors.http.exchange import Exchange

_LONGEST_S = 10**9


@attrs.frozen
class DrainBody:
    """The body of `POST /v1/operator/nodes/{name}/drain`."""

    for_s: Annotated[float, msgspec.Meta(gt=0, le=_LONGEST_S)] | None = None
    """After how many seconds the node takes work again; null: after `uncordon`."""


@attrs.frozen
class EmptyBody:
    """The body of a change that needs no values: an empty object."""


@attrs.frozen(kw_only=True)
class CordonState:
    """Whether a node is to take work."""

    node: str
    cordoned: bool
    since_unix_s: float | None = None
    until_unix_s: float | None = None
    """When the node takes work again by itself; null where only `uncordon` ends the cordon."""


@attrs.frozen(kw_only=True)
class ReloadState:
    """What a reload has changed."""

    node: str
    changed: Mapping[str, tuple[Any, Any]]
    """The old and the new value of each setting that has changed, with secrets covered."""
    fixed: tuple[str, ...]
    """The settings that have other values now, and that only a restart changes."""


async def drain(node: OperatedNode, exchange: Exchange) -> None:
    """Has a node take no more work. The node may need a second to notice."""
    body = await read_body(exchange, DrainBody)
    name = await _known(node, exchange)
    await node.cordons.cordon(name, body.for_s)
    await exchange.answer(200, await _state(node, name))


async def uncordon(node: OperatedNode, exchange: Exchange) -> None:
    """Has a drained node take work again."""
    await read_body(exchange, EmptyBody)
    name = await _known(node, exchange)
    await node.cordons.uncordon(name)
    await exchange.answer(200, await _state(node, name))


async def reload(node: OperatedNode, exchange: Exchange) -> None:
    """Reads the settings of this node again."""
    await read_body(exchange, EmptyBody)
    try:
        found = node.reload()
    except ConfigError as error:
        raise InvalidRequest(f"the settings stay as they are: {error.message}") from error
    await exchange.answer(200, ReloadState(node=node.name, changed=found.changed, fixed=found.fixed))


async def _known(node: OperatedNode, exchange: Exchange) -> str:
    """The node that the path names, which runs or has a cordon. Raises `NotFound`."""
    name = exchange.parameters["name"]
    running = sorted(record.name for record in node.records())
    if name not in running and await node.cordons.cordon_of(name) is None:
        raise NotFound(f"there is no node {name!r}; there are: {', '.join(running)}")
    return name


async def _state(node: OperatedNode, name: str) -> CordonState:
    cordon = await node.cordons.cordon_of(name)
    if cordon is None:
        return CordonState(node=name, cordoned=False)
    return CordonState(node=name, cordoned=True, since_unix_s=cordon.since_unix_s, until_unix_s=cordon.until_unix_s)
