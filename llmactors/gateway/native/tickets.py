"""`POST /v1/ws/tickets`: a ticket that opens one WebSocket or one stream, for a browser that cannot send its key."""

from llmactors.access.authentication import Caller
from llmactors.access.tickets import LIFE_S
from llmactors.gateway.request_service import RequestService
from llmactors.http.exchange import Exchange


async def issue(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """Issues a ticket for the caller's key."""
    ticket = await service.auth.issue_ticket(caller)
    await exchange.answer(200, {"ticket": ticket, "expires_in_s": round(LIFE_S)}, [("cache-control", "no-store")])
