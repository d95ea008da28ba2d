"""Requests that were accepted before wait for a ledger that is away."""

import pytest

from llmactors.errors import Unavailable
from llmactors.gateway.outages import TRIES, Outages


class Ledger:
    """A ledger that fails some times. `away` says whether that is known."""

    def __init__(self, *, fails: int, away: bool) -> None:
        self.fails, self.away = fails, away
        self.calls = 0

    async def ask(self) -> int:
        self.calls += 1
        if self.calls <= self.fails:
            raise Unavailable("the ledger is away")
        return self.calls


async def test_long_outage_is_waited_for(autojump_clock: object) -> None:
    ledger = Ledger(fails=1000, away=True)
    assert await Outages(lambda: not ledger.away).through(ledger.ask) == 1001


async def test_moment_that_nobody_noticed_is_waited_for(autojump_clock: object) -> None:
    ledger = Ledger(fails=TRIES - 1, away=False)
    assert await Outages(lambda: not ledger.away).through(ledger.ask) == TRIES


async def test_refusal_of_a_ledger_that_is_there_is_told(autojump_clock: object) -> None:
    ledger = Ledger(fails=1000, away=False)
    with pytest.raises(Unavailable):
        await Outages(lambda: not ledger.away).through(ledger.ask)
    assert ledger.calls == TRIES
