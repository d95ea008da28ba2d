"""`/v1/operator/history` and `/v1/operator/restarts`: what happened lately."""

import time
from collections.abc import Sequence

import attrs

from llmactors.gateway.operators import OperatedNode
from llmactors.http.exchange import Exchange
from llmactors.telemetry.restarts import ActorRestart


@attrs.frozen
class Restarts:
    """The last restarts of actors of this node, the newest one first."""

    restarts: Sequence[ActorRestart]


async def show_history(node: OperatedNode, exchange: Exchange) -> None:
    """Shows the figures of the last hour."""
    await exchange.answer(200, node.history.view(time.time()))


async def list_restarts(node: OperatedNode, exchange: Exchange) -> None:
    """Shows the last restarts of actors of this node."""
    await exchange.answer(200, Restarts(node.restarts.newest_first()))
