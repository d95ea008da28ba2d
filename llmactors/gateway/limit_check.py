"""What the requests of one call are charged, and whether the limits admit them while the ledger is away."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
import trio

from llmactors.access.authentication import Caller
from llmactors.actors import ActorDied, ActorRef, AskFailed
from llmactors.errors import Unavailable
from llmactors.gateway.actor_errors import client_error
from llmactors.limiter import Charge, RatePolicy, Standing, charges_for
from llmactors.limiter.actor import TakeShare
from llmactors.prices import Price


@attrs.define(eq=False)
class LimitCheck:
    """The limits of one gateway's callers. The ledger counts what is used. While the ledger is away, the limiter
    counts.
    """

    rate: RatePolicy | None = None
    """The node's own limit on each caller; None for no such limit. A reload of the settings replaces the limit."""
    limiter: ActorRef[TakeShare] | None = None
    """Asked while the ledger is away. None where the ledger never is, as in a test."""
    ledger_is_up: Callable[[], bool] = lambda: True
    answer_s: float = 2.0
    """The time in which the limiter must answer, in seconds."""
    prices: Mapping[str, Price] = attrs.field(factory=dict)
    """What the tokens of each model cost. A reload of the settings replaces the prices."""

    def set_rate(self, rate: RatePolicy | None) -> None:
        """Replaces the node's own limit. What callers have used of the old limit counts no more."""
        self.rate = rate

    def set_prices(self, prices: Mapping[str, Price]) -> None:
        """Replaces the prices. A request that was admitted before keeps its price."""
        self.prices = prices

    def charges(self, caller: Caller, reserved: Iterable[tuple[int, int]]) -> list[tuple[Charge, ...]]:
        """What each request is charged, in the order of `reserved`: how many tokens each request may take and make, and
        the most that it can cost, in billionths of the currency's unit.
        """
        return [
            charges_for(
                caller.limits,
                caller.tenant,
                tokens=tokens,
                cost_nano=cost_nano,
                key_id=caller.key_id,
                rate=self.rate,
                limit_key=caller.limit_key,
            )
            for tokens, cost_nano in reserved
        ]

    async def take_share(self, charges: Sequence[tuple[Charge, ...]]) -> tuple[Standing, ...]:
        """How the caller stands with this gateway's share of the limits; empty while the ledger counts.

        The share is charged if all standings are admitted. Raises `Unavailable` where the limiter does not answer.
        """
        if self.limiter is None or self.ledger_is_up():
            return ()
        together = tuple(charge for each in charges for charge in each)
        return await self._ask(self.limiter, TakeShare(together)) if together else ()

    async def _ask(self, limiter: ActorRef[TakeShare], question: TakeShare) -> tuple[Standing, ...]:
        for last_try in (False, True):
            with trio.move_on_after(self.answer_s):
                try:
                    answer = await limiter.ask(question)
                except ActorDied as error:
                    # The limiter crashed, and nothing was charged: ask its next incarnation.
                    if last_try:
                        raise client_error(error) from error
                    continue
                except AskFailed as error:
                    raise client_error(error) from error
                return answer
        raise Unavailable("the rate limiter does not answer; try again in a moment", retry_after_s=1.0)
