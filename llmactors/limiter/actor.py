"""The limiter: the actor that counts this gateway's share of each limit while the ledger is away.

While the ledger is up, the ledger counts for all gateways when it admits and ends a request, and this actor is not
asked. The store outlives a crash of the actor, so that a crash gives no caller more than the share.
"""

from collections.abc import Callable

import attrs
import trio

from llmactors.actors import Actor, Question
from llmactors.limiter.charges import Charge, Standing
from llmactors.limiter.policy import to_us
from llmactors.limiter.share import share_of
from llmactors.limiter.store import LimiterStore


@attrs.frozen
class TakeShare(Question[tuple[Standing, ...]]):
    """Charges this gateway's share, for all of `charges` or for none of them.

    The answer has one `Standing` per limit. The requests are refused if any standing is not admitted.
    """

    charges: tuple[Charge, ...]


class LimiterActor(Actor[TakeShare]):
    """Counts in `store` what this gateway lets through. `gateways` returns how many gateways share the limits."""

    def __init__(self, store: LimiterStore, gateways: Callable[[], int]) -> None:
        self._store = store
        self._gateways = gateways

    def __repr__(self) -> str:
        return f"<LimiterActor {self._store!r}>"

    async def on_message(self, message: TakeShare) -> tuple[Standing, ...]:
        gateways, now_us = max(1, self._gateways()), to_us(trio.current_time())
        # Permits are left out: a permit comes back when its request ends, which only the ledger knows.
        shares = [share_of(charge, gateways) for charge in message.charges if charge.policy is not None]
        standings = tuple(self._store.look(shares, now_us))
        if all(standing.decision.admitted for standing in standings):
            self._store.charge("", shares, now_us)
        return standings
