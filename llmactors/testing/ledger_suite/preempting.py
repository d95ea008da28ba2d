"""Promises about preemption: who gives a slot to whom, and that nothing of an answer is lost by that."""

# ruff: noqa: S101

from llmactors.ledger import AppendOutcome, Claim, Preemption, SlotOffer
from llmactors.testing.ledger_suite.rig import Rig, finished, request, tokens


class PreemptionSuite:
    """A running request changes places with a waiting one of a more urgent class, which has waited for too long."""

    async def test_urgent_request_gets_the_slot(self, rig: Rig) -> None:
        claim = await rig.start(request("low", priority=2))
        await rig.write(claim, 1, 3)
        await rig.submit(request("high", priority=0))
        assert await self._preempt(rig, claim) is None
        await rig.pass_time(rig.settings.preempt_after_s)
        swap = await self._preempt(rig, claim)
        assert swap is not None
        assert swap.given_up == ("low", claim.epoch)
        assert (swap.claim.request.id, swap.claim.attempt, swap.claim.tokens) == ("high", 1, ())
        assert swap.claim.waited_s >= rig.settings.preempt_after_s
        assert (await rig.ledger.statistics()).running == 1
        assert await rig.write(swap.claim, 1, 2, finished(2)) is AppendOutcome.OK

    async def test_request_that_gave_way_goes_on_where_it_was(self, rig: Rig) -> None:
        await rig.submit(request("low", priority=2), *(request(f"later{each}", priority=2) for each in range(2)))
        [claim] = await rig.claim()
        await rig.write(claim, 1, 3)
        await self._wait_urgent(rig)
        assert await self._preempt(rig, claim) is not None
        assert await rig.write(claim, 4, 5) is AppendOutcome.FENCED
        info = await rig.ledger.info("low")
        assert (info.state, info.attempt, info.last_seq) == ("queued", 0, 3)
        again, later = await rig.claim("v", slots=2)
        assert (again.request.id, again.attempt, again.tokens) == ("low", 1, tokens(1, 3))
        assert later.request.id == "later0"
        assert again.epoch > claim.epoch
        assert await rig.write(again, 4, 5, finished(5)) is AppendOutcome.OK
        assert (await rig.ledger.statistics()).requeued_total == 0

    async def test_request_whose_log_has_grown_does_not_give_way(self, rig: Rig) -> None:
        """The worker has judged by a shorter answer that another worker can go on with it."""
        claim = await rig.start(request("low", priority=2))
        await rig.write(claim, 1, 3)
        await self._wait_urgent(rig)
        assert await self._preempt(rig, claim, tokens=2) is None
        assert await self._preempt(rig, claim, tokens=3) is not None

    async def test_only_a_less_urgent_request_gives_way(self, rig: Rig) -> None:
        await rig.submit(request("same", priority=1), request("more", priority=0))
        claims = await rig.claim(slots=2)
        await self._wait_urgent(rig, priority=1)
        assert await self._preempt(rig, *claims) is None

    async def test_best_offer_that_may_give_way_does(self, rig: Rig) -> None:
        await rig.submit(*(request(f"low{each}", priority=2) for each in range(4)))
        stranger, *claims = await rig.claim("other", slots=1) + await rig.claim(slots=3)
        await rig.ledger.finish(claims[0].request.id, claims[0].epoch, finished(0))
        await self._wait_urgent(rig)
        swap = await self._preempt(rig, stranger, *claims)
        assert swap is not None
        assert swap.given_up[0] == claims[1].request.id

    async def test_request_gives_way_only_a_few_times(self, rig: Rig) -> None:
        await rig.submit(request("low", priority=2))
        times = 0
        while True:
            [claim] = await rig.claim()
            await self._wait_urgent(rig, f"high{times}")
            swap = await self._preempt(rig, claim)
            if swap is None:
                break
            times += 1
            await rig.ledger.finish(swap.claim.request.id, swap.claim.epoch, finished(0))
        assert times == rig.settings.preemptions_max

    async def test_preemptions_of_a_model_have_a_rate(self, rig: Rig) -> None:
        await rig.submit(*(request(f"low{each}", priority=2) for each in range(2)))
        claims = await rig.claim(slots=2)
        await rig.submit(*(request(f"high{each}", priority=0) for each in range(2)))
        await rig.pass_time(rig.settings.preempt_after_s)
        assert await self._preempt(rig, *claims) is not None
        assert await self._preempt(rig, *claims) is None
        await rig.pass_time(1 / rig.settings.preemptions_per_s)
        assert await self._preempt(rig, *claims) is not None

    async def test_suspect_neither_gives_way_nor_preempts(self, rig: Rig) -> None:
        await rig.submit(request(priority=2))
        await rig.crash(times=2)
        [claim] = await rig.claim()
        assert claim.quarantined
        await self._wait_urgent(rig)
        assert await self._preempt(rig, claim) is None
        await rig.ledger.cancel("r")
        await rig.ledger.cancel("high")
        await rig.submit(request("s", priority=0))
        await rig.crash(times=2, request_id="s")
        low = await rig.start(request("low", priority=2, model="n"))
        await rig.pass_time(rig.settings.preempt_after_s)
        assert await self._preempt(rig, low) is None

    async def test_worker_without_a_lease_changes_nothing(self, rig: Rig) -> None:
        claim = await rig.start(request("low", priority=2))
        await self._wait_urgent(rig)
        await rig.ledger.leave("w")
        assert await self._preempt(rig, claim) is None

    async def _wait_urgent(self, rig: Rig, request_id: str = "high", priority: int = 0) -> None:
        """A request has waited for as long as a preemption needs, and the worker has beaten meanwhile."""
        await rig.submit(request(request_id, priority=priority))
        await rig.pass_time(rig.settings.preempt_after_s)
        await rig.ledger.beat("w")
        await rig.pass_time(1 / rig.settings.preemptions_per_s)
        await rig.ledger.beat("w")

    async def _preempt(self, rig: Rig, *offered: Claim, tokens: int = 64) -> Preemption | None:
        offers = [SlotOffer(claim.request.id, claim.epoch, tokens) for claim in offered]
        return await rig.ledger.preempt("w", "m", offers)
