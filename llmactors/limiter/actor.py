"""The actor that says what callers are charged, and which of them must be refused while nobody counts for all.

What is used is counted by the ledger, in the moves that admit and end a request. While that is away, this actor counts
by itself: its gateway's share of each limit. Its memory is handed in and outlives it.
"""

from collections.abc import Callable, Iterable

import attrs
import trio

from llmactors.actors import Actor
from llmactors.limiter.charges import Charge, Standing, charges_for
from llmactors.limiter.limits import Limits
from llmactors.limiter.policy import RatePolicy, to_us
from llmactors.limiter.share import share_of
from llmactors.limiter.store import LimiterStore


@attrs.frozen
class Assess:
    """Ask this before requests are put into the ledger; the answer is an `Assessment`."""

    tenant: str
    limit_key: str
    """What the node's own limit counts by."""
    limits: Limits
    tokens: tuple[int, ...]
    """Of each of the requests: its prompt and its longest answer."""


@attrs.frozen
class Assessment:
    """What each of the requests is to be charged, in their order."""

    charges: tuple[tuple[Charge, ...], ...]
    standings: tuple[Standing, ...] = ()
    """How the caller stands with this gateway's share; empty while the ledger counts."""

    @property
    def admitted(self) -> bool:
        """False: refuse them at once, without asking the ledger."""
        return all(standing.decision.admitted for standing in self.standings)


class LimiterActor(Actor):
    """Knows the node's own limit on each caller, `rate`, and how many `gateways` share all limits."""

    def __init__(
        self,
        rate: RatePolicy | None,
        share: LimiterStore,
        *,
        ledger_is_up: Callable[[], bool] = lambda: True,
        gateways: Callable[[], int] = lambda: 1,
    ) -> None:
        self._rate = rate
        self._share = share
        self._ledger_is_up = ledger_is_up
        self._gateways = gateways

    def __repr__(self) -> str:
        return f"<LimiterActor {self._rate} {self._share!r}>"

    async def on_message(self, message: Assess) -> Assessment:
        charges = tuple(
            charges_for(message.limits, message.tenant, tokens=tokens, rate=self._rate, limit_key=message.limit_key)
            for tokens in message.tokens
        )
        if self._ledger_is_up():
            return Assessment(charges)
        return Assessment(charges, self._from_share(charge for each in charges for charge in each))

    def _from_share(self, charges: Iterable[Charge]) -> tuple[Standing, ...]:
        """Takes from this gateway's share what can be had of it now: all, or nothing."""
        gateways, now_us = max(1, self._gateways()), to_us(trio.current_time())
        own = [share_of(charge, gateways) for charge in charges if charge.policy is not None]
        standings = tuple(self._share.look(own, now_us))
        if all(standing.decision.admitted for standing in standings):
            self._share.charge("", own, now_us)
        return standings
