"""What operators do with one dead letter, by the command line and by HTTP."""

from llmactors.errors import Conflict, Overloaded
from llmactors.http.request_id import new_request_id
from llmactors.ledger.contract import Ledger
from llmactors.ledger.values import SubmitOutcome, no_such_dead_letter


async def requeue_dead_letter(ledger: Ledger, request_id: str) -> str:
    """Submits a dead letter as a new request, and returns the new id.

    Raises `NotFound` where there is no such dead letter, or `Overloaded` where the queue is full.
    """
    new_id = new_request_id()
    outcome = await ledger.requeue(request_id, new_id)
    if outcome is SubmitOutcome.OVERLOADED:
        raise Overloaded(
            f"the queue is full, and {request_id} is still a dead letter; try again in a moment", retry_after_s=1.0
        )
    if outcome is SubmitOutcome.CONFLICT:
        raise Conflict(f"another request has the id {new_id}, and {request_id} is still a dead letter; try again")
    return new_id


async def purge_dead_letter(ledger: Ledger, request_id: str) -> int:
    """Removes the dead letters of one request, and returns how many there were. Raises `NotFound` where none is."""
    purged = await ledger.purge(request_id)
    if not purged:
        raise no_such_dead_letter(request_id)
    return purged
