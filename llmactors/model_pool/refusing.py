"""Ends the requests of a model that cannot be loaded."""

import secrets

from llmactors.errors import LlmactorsError
from llmactors.ledger import Ledger
from llmactors.messages import Failed

_AT_ONCE = 16


async def end_waiting(ledger: Ledger, node: str, model: str, error: LlmactorsError) -> int:
    """Ends every request that waits for `model` now with `error`. Returns how many there were."""
    worker = f"{node or secrets.token_hex(4)}/{model}/refused#1-{secrets.token_hex(4)}"
    ended = 0
    try:
        # A long queue takes longer than a lease, so each round begins with a beat.
        while (await ledger.beat(worker)).live and (claims := await ledger.claim(worker, model, _AT_ONCE)):
            for claim in claims:
                await ledger.finish(claim.request.id, claim.epoch, Failed(error.code, error.message))
            ended += len(claims)
    finally:
        await ledger.leave(worker)
    return ended
