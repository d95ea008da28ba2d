"""`/v1/operator/dead-letters`: the requests that the ledger gave up."""

from collections.abc import Sequence

import attrs

from llmactors.gateway.operating.parameters import MAX_ROWS, Limit, read_query
from llmactors.gateway.operators import OperatedNode
from llmactors.http.exchange import Exchange
from llmactors.ledger import DeadRequest
from llmactors.ledger.dead_letters import purge_dead_letter, requeue_dead_letter
from llmactors.telemetry.redaction import scrub

_CAUSE_CHARS = 300


@attrs.frozen(kw_only=True)
class DeadLetterRow:
    """A request that the ledger gave up."""

    id: str
    tenant: str
    model: str
    cause: str
    attempts: int
    unix_s: float
    """When the ledger gave up the request."""


@attrs.frozen
class DeadLetterRows:
    """The newest dead letters, the newest first."""

    dead_letters: Sequence[DeadLetterRow]
    total: int


@attrs.frozen
class Requeued:
    """The request that a dead letter was submitted as."""

    id: str


@attrs.frozen
class Purged:
    """How many dead letters were removed."""

    purged: int


@attrs.frozen(kw_only=True)
class DeadLettersQuery:
    """The query of `GET /v1/operator/dead-letters`."""

    limit: Limit = MAX_ROWS


async def list_dead_letters(node: OperatedNode, exchange: Exchange) -> None:
    """Shows the newest dead letters."""
    limit = read_query(exchange, DeadLettersQuery).limit
    found = await node.ledger.dead_letters()
    await exchange.answer(200, DeadLetterRows([_letter(each) for each in found[: -limit - 1 : -1]], len(found)))


async def requeue(node: OperatedNode, exchange: Exchange) -> None:
    """Submits a dead letter again, under a new id."""
    await exchange.answer(200, Requeued(await requeue_dead_letter(node.ledger, exchange.parameters["id"])))


async def purge(node: OperatedNode, exchange: Exchange) -> None:
    """Removes the dead letters of one request."""
    await exchange.answer(200, Purged(await purge_dead_letter(node.ledger, exchange.parameters["id"])))


def _letter(letter: DeadRequest) -> DeadLetterRow:
    return DeadLetterRow(
        id=letter.request.id,
        tenant=letter.request.tenant,
        model=letter.request.model,
        cause=scrub(letter.cause)[:_CAUSE_CHARS],
        attempts=letter.attempt,
        unix_s=letter.at_ms / 1000,
    )
