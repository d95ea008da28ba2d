"""`/v1/operator/requests` and `/v1/operator/queue`: what is under way, and what waits."""

from collections.abc import Sequence
from typing import Any, Literal

import attrs
import msgspec

from llmactors.gateway.operating.parameters import MAX_ROWS, Limit, read_query
from llmactors.gateway.operators import OperatedNode
from llmactors.http.exchange import Exchange
from llmactors.ledger import Ledger, QueuePlace, RequestFilter, RequestTimes, RequestView
from llmactors.messages import Failed
from llmactors.telemetry.redaction import scrub


class RequestRow(msgspec.Struct, kw_only=True, frozen=True, rename={"class_": "class"}):
    """A request that has not ended."""

    id: str
    tenant: str
    key_id: str
    """The id of the API key; empty where the node asks for no key of a store."""
    model: str
    class_: int
    """The priority class; 0 is served first."""
    state: str
    """`queued` or `running`; of one request alone, also `ended`."""
    age_s: float
    """How long ago the request was admitted."""
    tokens: int
    """How many tokens the log has."""
    attempts: int
    """How many attempts count, the one that runs included."""
    epoch: int
    worker: str | None
    """The worker that runs the request."""
    takeovers: int
    """How often another claim followed the first one."""


@attrs.frozen
class ClaimRow:
    """One claim of a request."""

    epoch: int
    worker: str
    unix_s: float
    """When the worker claimed the request."""
    cause: str | None
    """Why the claim is over though the request was not. Null for a claim that holds, or in which the request ended."""
    detail: str
    """The error of the backend, or what the worker said."""


class RequestDetails(RequestRow, kw_only=True, frozen=True):
    """One request, with the times of its life."""

    place: int | None
    """About how many claims of its model it takes until this request is claimed; null where it does not wait."""
    admitted_unix_s: float
    first_token_unix_s: float | None
    ended_unix_s: float | None
    claims: Sequence[ClaimRow]
    """The newest claims, oldest first."""
    outcome: str | None
    """The finish reason, or the code of the error; null while the request has not ended."""


@attrs.frozen
class Requests:
    """Requests that have not ended, oldest first."""

    requests: Sequence[RequestRow]
    total: int
    """How many requests fit the query. At most 10000 requests are looked at."""


class QueueRow(msgspec.Struct, kw_only=True, frozen=True, rename={"class_": "class"}):
    """What one tenant has waiting for one model in one class."""

    model: str
    class_: int
    tenant: str
    waiting: int
    cost_tokens: float
    """The tokens that these requests may take and make, each divided by the weight of its key."""
    oldest_wait_s: float


@attrs.frozen
class Queue:
    """What waits, the oldest wait first, at most 500 rows."""

    models: Sequence[QueueRow]


@attrs.frozen(kw_only=True)
class RequestsQuery:
    """The query of `GET /v1/operator/requests`."""

    state: Literal["queued", "running"] | None = None
    tenant: str | None = None
    model: str | None = None
    limit: Limit = 100


async def list_requests(node: OperatedNode, exchange: Exchange) -> None:
    """Shows the requests that have not ended."""
    wanted = read_query(exchange, RequestsQuery)
    which = RequestFilter(wanted.state, wanted.tenant, wanted.model)
    await exchange.answer(200, await requests_of(node.ledger, which, wanted.limit))


async def show_request(node: OperatedNode, exchange: Exchange) -> None:
    """Shows one request, also one that has ended, as long as its stream is kept."""
    request_id = exchange.parameters["id"]
    times = await node.ledger.request_times(request_id)
    [place] = await node.ledger.places([request_id])
    await exchange.answer(200, _details(times, place))


async def show_queue(node: OperatedNode, exchange: Exchange) -> None:
    """Shows what waits, by model, class and tenant."""
    await exchange.answer(200, await queue_of(node.ledger, node.directory.names))


async def requests_of(ledger: Ledger, which: RequestFilter, limit: int) -> Requests:
    """The requests of the ledger that have not ended."""
    found = await ledger.open_requests(which, limit)
    return Requests([_row(view) for view in found.shown], found.total)


async def queue_of(ledger: Ledger, models: Sequence[str]) -> Queue:
    """What waits in the ledger."""
    rows = [
        QueueRow(
            model=share.model,
            class_=share.priority,
            tenant=share.tenant,
            waiting=share.waiting,
            cost_tokens=round(share.cost, 1),
            oldest_wait_s=round(share.oldest_s, 3),
        )
        for share in (await ledger.queue_shares(models))[:MAX_ROWS]
    ]
    return Queue(rows)


def _row(view: RequestView) -> RequestRow:
    return RequestRow(**_fields(view))


def _fields(view: RequestView) -> dict[str, Any]:
    return {
        "id": view.id,
        "tenant": view.tenant,
        "key_id": view.key_id,
        "model": view.model,
        "class_": view.priority,
        "state": view.state,
        "age_s": round(view.age_s, 3),
        "tokens": view.tokens,
        "attempts": view.attempt,
        "epoch": view.epoch,
        "worker": view.worker,
        "takeovers": view.takeovers,
    }


def _details(times: RequestTimes, place: QueuePlace | None) -> RequestDetails:
    end = times.end
    return RequestDetails(
        **_fields(times.view),
        place=None if place is None else place.place,
        admitted_unix_s=times.admitted_ms / 1000,
        first_token_unix_s=None if times.first_token_ms is None else times.first_token_ms / 1000,
        ended_unix_s=None if times.ended_ms is None else times.ended_ms / 1000,
        claims=[
            ClaimRow(
                claim.epoch,
                claim.worker,
                claim.at_ms / 1000,
                None if claim.ended is None else claim.ended.value,
                scrub(claim.detail),
            )
            for claim in times.claims
        ],
        outcome=None if end is None else end.code if isinstance(end, Failed) else end.reason,
    )
