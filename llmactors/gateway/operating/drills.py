"""`/v1/operator/drills`: breaks a part of the node on purpose, so that an operator sees that streams go on."""

from collections.abc import Awaitable, Callable

import attrs
import structlog

from llmactors.errors import NotFound
from llmactors.gateway.body import NonEmpty
from llmactors.gateway.operating.open_connections import OpenConnections
from llmactors.gateway.operating.parameters import read_body
from llmactors.gateway.operators import OperatedNode
from llmactors.http.exchange import Exchange

log = structlog.get_logger("llmactors.gateway")


@attrs.frozen
class Drills:
    """What a node breaks when an operator asks for that."""

    connections: OpenConnections
    kill_model: Callable[[str], Awaitable[str]]
    """Kills the process of a model, and returns the name of the node where the process ran.

    Raises `NotFound` for a model that no node serves, or `Conflict` where the model has no process to kill.
    """
    crash_actor: Callable[[str], Callable[[], None]]
    """Returns a function that crashes the actor with this path. Raises `NotFound`, or `Conflict` for an actor that
    does not run."""


@attrs.frozen
class KillModelBody:
    """The body of `POST /v1/operator/drills/kill-model`."""

    model: NonEmpty


@attrs.frozen
class CrashActorBody:
    """The body of `POST /v1/operator/drills/crash-actor`."""

    actor: NonEmpty
    """The path of the actor, as in `/v1/tree`."""


@attrs.frozen
class CutConnectionBody:
    """The body of `POST /v1/operator/drills/cut-connection`."""

    request_id: NonEmpty


@attrs.frozen
class DrillBegun:
    """What is being broken."""

    node: str
    """The node where the part runs."""
    broken: str
    """The model, the actor, or the request."""


async def kill_model(node: OperatedNode, exchange: Exchange) -> None:
    """Kills the process of a model."""
    drills = _drills_of(node)
    model = (await read_body(exchange, KillModelBody)).model
    where = await drills.kill_model(model)
    log.warning("a drill kills the process of a model", model=model, node=where)
    await exchange.answer(200, DrillBegun(where, model))


async def crash_actor(node: OperatedNode, exchange: Exchange) -> None:
    """Crashes an actor of this node, after the answer: the actor may be the one that answers."""
    drills = _drills_of(node)
    actor = (await read_body(exchange, CrashActorBody)).actor
    crash = drills.crash_actor(actor)
    log.warning("a drill crashes an actor", actor=actor)
    await exchange.answer(200, DrillBegun(node.name, actor))
    crash()


async def cut_connection(node: OperatedNode, exchange: Exchange) -> None:
    """Cuts the connections over which clients read a request."""
    drills = _drills_of(node)
    request_id = (await read_body(exchange, CutConnectionBody)).request_id
    if not drills.connections.cut(request_id):
        raise NotFound(f"no client reads a request with the id {request_id[:100]!r} at this gateway")
    log.warning("a drill cuts the connection of a client", request_id=request_id)
    await exchange.answer(200, DrillBegun(node.name, request_id))


def _drills_of(node: OperatedNode) -> Drills:
    if node.drills is None:
        raise NotFound("the drills are off: start the node with `drills = true` to break parts of it on purpose")
    return node.drills
