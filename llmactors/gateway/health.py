"""Routes for operators: health, metrics, and the supervision tree."""

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
from quart import Response
from quart_trio import QuartTrio

from llmactors.actors import SupervisorStatistics
from llmactors.errors import Unavailable
from llmactors.gateway.request_service import RequestService

TreeSource = Callable[[], SupervisorStatistics]


def to_json(payload: object) -> bytes:
    """As compact JSON; attrs objects as objects."""
    return msgspec.json.encode(payload)


def add_routes(app: QuartTrio, service: RequestService, tree: TreeSource) -> None:
    """`/livez`, `/readyz`, `/healthz`, `/metrics`, `/v1/tree`."""

    @app.get("/livez")
    async def livez() -> Response:
        """The process answers: nothing more is asked."""
        return _json({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        """Whether to send requests here."""
        problems = service.problems()
        return _json({"status": "not ready" if problems else "ready", "problems": problems}, ok=not problems)

    @app.get("/healthz")
    async def healthz() -> Response:
        """Every component and how it is. A hung backend is not healthy."""
        problems = service.problems()
        components: dict[str, Any] = {
            "gateway": {"state": "draining" if service.draining else "ready"},
            "ledger": await _ledger_state(service),
            "models": {
                name: {"state": status.state.value, "detail": status.detail, "capabilities": status.capabilities}
                for name, status in service.directory.items()
            },
        }
        return _json({"status": "unhealthy" if problems else "healthy", "components": components}, ok=not problems)

    @app.get("/metrics")
    async def metrics() -> Response:
        # Without the ledger's numbers where it is away: the others are needed most then.
        with contextlib.suppress(Unavailable):
            ledger = await service.ledger_statistics()
            service.metrics.ledger(
                queued=ledger.queued,
                running=ledger.running,
                ended=ledger.ended,
                requeued_total=ledger.requeued_total,
                fenced_total=ledger.fenced_total,
            )
        body, content_type = service.metrics.render()
        return Response(body, content_type=content_type)

    @app.get("/v1/tree")
    async def show_tree() -> Response:
        return _json(tree())


async def _ledger_state(service: RequestService) -> dict[str, Any]:
    try:
        found: dict[str, Any] = msgspec.to_builtins(await service.ledger_statistics())
    except Unavailable as error:
        return {"state": "away", "detail": error.message}
    return found


def _json(payload: object, *, ok: bool = True) -> Response:
    headers = {} if ok else {"Retry-After": "1"}
    return Response(to_json(payload), status=200 if ok else 503, headers=headers, content_type="application/json")
