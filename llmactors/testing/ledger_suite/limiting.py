"""Promises about limits: a request is charged once and settled at its end, and no limit is exceeded."""

# ruff: noqa: D101, S101

import datetime as dt
from typing import Any

import pytest

from llmactors import errors
from llmactors.ledger import AdmitResult, Candidate, ReleaseHow, SubmitOutcome
from llmactors.limiter import Limit, Limits, RateKind, RatePolicy, charges_for
from llmactors.limiter.limits import Budget
from llmactors.messages import Failed, Finished, Usage
from llmactors.prices import Price
from llmactors.testing.ledger_suite.rig import Rig, finished, request

LIMITS = Limits(requests_per_minute=6, tokens_per_minute=600, tokens_per_day=1000, concurrent=3)
PROMPT_TOKENS = 2
"""The estimate for a prompt of 8 bytes."""
RESERVED = PROMPT_TOKENS + 98
DAY_S = 86_400

ENDINGS = ["finished", "failed", "fatal", "cancelled", "expired", "abandoned", "poisoned"]


def charged(name: str, *, limits: Limits = LIMITS, rate: RatePolicy | None = None, **fields: Any) -> Candidate:
    """A candidate that reserves `RESERVED` tokens of its tenant, unless `fields` say otherwise."""
    asked = request(name, **{"prompt": "8 bytes.", "max_tokens": 98, **fields})
    most = PROMPT_TOKENS + asked.max_tokens
    return Candidate(asked, charges_for(limits, asked.tenant, tokens=most, rate=rate, limit_key="caller"))


def remaining(result: AdmitResult) -> dict[Limit, int]:
    """The remaining amount of each limit."""
    return {standing.charge.limit: standing.decision.remaining for standing in result.standings}


def refusing(result: AdmitResult) -> set[Limit]:
    """The limits that refused."""
    return {standing.charge.limit for standing in result.standings if not standing.decision.admitted}


class LimitSuite:
    async def standing(self, rig: Rig, of: Candidate) -> dict[Limit, int]:
        """The remaining amount of each limit, from the answer to a candidate that was admitted before."""
        result = await rig.ledger.admit([of])
        assert result.outcome is SubmitOutcome.DUPLICATE
        return remaining(result)

    async def test_admitted_request_is_charged(self, rig: Rig) -> None:
        result = await rig.ledger.admit([charged("r")])
        assert result.outcome is SubmitOutcome.ACCEPTED
        left = {Limit.REQUESTS: 5, Limit.TOKENS: 500, Limit.DAY: 900, Limit.CONCURRENT: 2}
        assert remaining(result) == left
        assert await self.standing(rig, charged("r")) == left

    async def test_request_without_limits_has_no_standings(self, rig: Rig) -> None:
        result = await rig.ledger.admit([charged("r", limits=Limits())])
        assert result == AdmitResult(SubmitOutcome.ACCEPTED)

    async def test_repeated_id_is_charged_once(self, rig: Rig) -> None:
        await rig.ledger.admit([charged("r")])
        for _ in range(3):
            assert (await self.standing(rig, charged("r")))[Limit.TOKENS] == 500
        conflict = await rig.ledger.admit([charged("r", prompt="another!")])
        assert conflict.outcome is SubmitOutcome.CONFLICT
        assert remaining(conflict)[Limit.REQUESTS] == 5

    @pytest.mark.parametrize(
        ("limits", "limit"),
        [
            (Limits(requests_per_minute=2), Limit.REQUESTS),
            (Limits(tokens_per_minute=299), Limit.TOKENS),
            (Limits(tokens_per_day=299), Limit.DAY),
            (Limits(concurrent=2), Limit.CONCURRENT),
        ],
    )
    async def test_request_over_a_limit_is_refused_and_not_charged(
        self, rig: Rig, limits: Limits, limit: Limit
    ) -> None:
        for name in ("r1", "r2"):
            assert (await rig.ledger.admit([charged(name, limits=limits)])).outcome is SubmitOutcome.ACCEPTED
        before = await self.standing(rig, charged("r1", limits=limits))
        for _ in range(3):
            refused = await rig.ledger.admit([charged("r3", limits=limits)])
            assert (refused.outcome, refusing(refused)) == (SubmitOutcome.LIMITED, {limit})
            assert remaining(refused) == before
        with pytest.raises(errors.NotFound):
            await rig.ledger.info("r3")
        assert (await rig.ledger.statistics()).accepted_total == 2
        assert (await rig.ledger.admit([charged("o", limits=limits, tenant="other")])).outcome is SubmitOutcome.ACCEPTED

    async def test_request_is_admitted_after_retry_after(self, rig: Rig) -> None:
        limits = Limits(tokens_per_minute=150)
        await rig.ledger.admit([charged("r1", limits=limits)])
        [standing] = (await rig.ledger.admit([charged("r2", limits=limits)])).standings
        assert standing.decision.retry_after_s == pytest.approx(20, abs=0.01)
        await rig.pass_time(standing.decision.retry_after_s or 0)
        assert (await rig.ledger.admit([charged("r2", limits=limits)])).outcome is SubmitOutcome.ACCEPTED

    async def test_request_larger_than_its_limit_has_no_retry_after(self, rig: Rig) -> None:
        [standing] = (await rig.ledger.admit([charged("r", limits=Limits(tokens_per_minute=99))])).standings
        assert (standing.decision.admitted, standing.decision.retry_after_s) == (False, None)

    @pytest.mark.parametrize("kind", list(RateKind))
    async def test_rate_counts_by_caller(self, rig: Rig, kind: RateKind) -> None:
        rate = RatePolicy(kind=kind, amount=2, period_s=10)
        # The window may end once within the test, but not twice.
        outcomes = [
            (await rig.ledger.admit([charged(f"r{each}", limits=Limits(), rate=rate, tenant=f"t{each}")])).outcome
            for each in range(5)
        ]
        assert 2 <= outcomes.count(SubmitOutcome.ACCEPTED) <= 4
        assert outcomes[-1] is SubmitOutcome.LIMITED

    async def test_refusal_by_a_full_queue_is_not_charged(self, rig: Rig) -> None:
        await rig.submit(*(request(f"r{each}") for each in range(rig.settings.max_queued)))
        result = await rig.ledger.admit([charged("r")])
        assert result.outcome is SubmitOutcome.OVERLOADED
        assert remaining(result)[Limit.TOKENS] == 600

    async def test_candidates_are_admitted_all_or_none(self, rig: Rig) -> None:
        two = [charged("r1"), charged("r2")]
        result = await rig.ledger.admit(two)
        assert (result.outcome, remaining(result)[Limit.TOKENS]) == (SubmitOutcome.ACCEPTED, 400)
        more = await rig.ledger.admit([charged("r3"), charged("r4")])
        assert (more.outcome, refusing(more)) == (SubmitOutcome.LIMITED, {Limit.CONCURRENT})
        assert remaining(more)[Limit.TOKENS] == 400
        assert (await rig.ledger.statistics()).queued == 2
        assert (await rig.ledger.admit(two)).outcome is SubmitOutcome.DUPLICATE
        assert (await rig.ledger.admit([charged("r1"), charged("r5")])).outcome is SubmitOutcome.CONFLICT
        assert (await rig.ledger.statistics()).queued == 2

    async def test_candidates_must_fit_into_the_queue_together(self, rig: Rig) -> None:
        await rig.submit(*(request(f"r{each}") for each in range(rig.settings.max_queued - 1)))
        result = await rig.ledger.admit([charged("a"), charged("b")])
        assert result.outcome is SubmitOutcome.OVERLOADED
        assert (await rig.ledger.statistics()).queued == rig.settings.max_queued - 1

    @pytest.mark.parametrize("how", ENDINGS)
    async def test_ended_request_is_charged_for_what_it_used(self, rig: Rig, how: str) -> None:
        """Whether its worker, a client or a time limit ends the request. The usage record says the same."""
        fields: dict[str, Any] = {}
        if how == "expired":
            fields["deadline_ms"] = rig.wall_ms() + 200
        if how == "abandoned":
            fields["resume_grace_ms"] = 200
        candidate = charged("r", **fields)
        await rig.ledger.admit([candidate])
        used = await self._end(rig, how)
        assert (await rig.ledger.info("r")).state == "ended"
        left = await self.standing(rig, candidate)
        assert left[Limit.DAY] == 1000 - used
        assert left[Limit.CONCURRENT] == 3
        assert left[Limit.REQUESTS] <= 6
        [record] = (await rig.ledger.usage_records(0, rig.wall_ms() + 1)).records
        assert record.prompt_tokens + record.completion_tokens == used
        assert record.cached_tokens == (5 if how == "finished" else 0)

    async def _end(self, rig: Rig, how: str) -> int:
        """Ends the request after 3 tokens in the given way, and returns the number of tokens that it used."""
        if how == "poisoned":
            await rig.crash(rig.settings.quarantine_from_attempt)
            return PROMPT_TOKENS
        [claim] = await rig.claim()
        await rig.write(claim, 1, 3)
        match how:
            case "finished":
                for _ in range(2):  # as after a lost answer
                    await rig.ledger.finish("r", claim.epoch, Finished("stop", Usage(7, 3, 5)))
                return 10
            case "failed":
                await rig.write(claim, 4, 5, Failed("BACKEND_FAILED", "no more", Usage(4, 5)))
                return 9
            case "fatal":
                await rig.ledger.release("r", claim.epoch, ReleaseHow.FATAL, "it cannot be")
            case "cancelled":
                assert await rig.ledger.cancel("r")
                assert not await rig.ledger.cancel("r")
            case _:
                await rig.pass_time(0.3)
                await rig.ledger.reap()
        return PROMPT_TOKENS + 3

    async def test_request_cancelled_in_the_queue_costs_no_tokens(self, rig: Rig) -> None:
        await rig.ledger.admit([charged("r")])
        await rig.ledger.cancel("r")
        left = await self.standing(rig, charged("r"))
        assert (left[Limit.TOKENS], left[Limit.DAY], left[Limit.REQUESTS]) == (600, 1000, 5)

    async def test_takeover_is_charged_once(self, rig: Rig) -> None:
        """The reservation and the permit stay the same under a new worker, and the request is settled once."""
        await rig.ledger.admit([charged("r")])
        [claim] = await rig.claim("w1")
        await rig.write(claim, 1, 3)
        await rig.ledger.leave("w1")
        left = await self.standing(rig, charged("r"))
        assert (left[Limit.DAY], left[Limit.CONCURRENT]) == (900, 2)
        [claim] = await rig.claim("w2")
        await rig.write(claim, 4, 6, finished(6))
        left = await self.standing(rig, charged("r"))
        assert (left[Limit.DAY], left[Limit.CONCURRENT]) == (1000 - 9, 3)

    async def test_use_beyond_the_reservation_is_charged_later(self, rig: Rig) -> None:
        await rig.ledger.admit([charged("r")])
        [claim] = await rig.claim()
        await rig.ledger.finish("r", claim.epoch, Finished("stop", Usage(700, 0)))
        left = await self.standing(rig, charged("r"))
        assert (left[Limit.TOKENS], left[Limit.DAY]) == (0, 300)

    async def test_budget_reserves_the_most_and_settles_the_cost(self, rig: Rig) -> None:
        """Two keys of one tenant share the tenant's budget, and each has its own."""
        price = Price.per_million(1.0, 10.0, 0.5)
        budgets = Limits(budgets=(Budget(2_000_000, "month"), Budget(1_500_000, "day", "key")))

        def spending(name: str, key_id: str) -> Candidate:
            asked = request(name, prompt="8 bytes.", max_tokens=98, key_id=key_id, price=price)
            most_nano = price.most_nano(PROMPT_TOKENS, 98)
            charges = charges_for(budgets, asked.tenant, tokens=RESERVED, cost_nano=most_nano, key_id=key_id)
            return Candidate(asked, charges)

        first, second = spending("r1", "k1"), spending("r2", "k2")
        left = remaining(await rig.ledger.admit([first]))
        assert left == {Limit.MONTH_BUDGET: 2_000_000 - 982_000, Limit.KEY_DAY_BUDGET: 1_500_000 - 982_000}
        assert refusing(await rig.ledger.admit([spending("r3", "k1")])) == {Limit.KEY_DAY_BUDGET}
        assert (await rig.ledger.admit([second])).outcome is SubmitOutcome.ACCEPTED
        assert refusing(await rig.ledger.admit([spending("r4", "k3")])) == {Limit.MONTH_BUDGET}
        [claim, _] = await rig.claim(slots=2)
        await rig.ledger.finish(claim.request.id, claim.epoch, Finished("stop", Usage(7, 3, 4)))
        spent = 3 * 1000 + 4 * 500 + 3 * 10_000
        left = await self.standing(rig, first)
        assert left == {Limit.MONTH_BUDGET: 2_000_000 - 982_000 - spent, Limit.KEY_DAY_BUDGET: 1_500_000 - spent}

    async def test_budget_begins_anew_with_its_month(self, rig: Rig) -> None:
        limits = Limits(budgets=(Budget(1_000, "month"),))
        charges = charges_for(limits, "t", tokens=1, cost_nano=1_000)
        assert (await rig.ledger.admit([Candidate(request("r1"), charges)])).outcome is SubmitOutcome.ACCEPTED
        [standing] = (await rig.ledger.admit([Candidate(request("r2"), charges)])).standings
        now = dt.datetime.fromtimestamp(rig.wall_ms() / 1000, dt.UTC)
        anew = (now.replace(day=1) + dt.timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        assert standing.decision.retry_after_s == pytest.approx((anew - now).total_seconds(), abs=1)
        await rig.pass_time((standing.decision.retry_after_s or 0) + 1)
        assert (await rig.ledger.admit([Candidate(request("r2"), charges)])).outcome is SubmitOutcome.ACCEPTED

    async def test_daily_limit_resets_at_midnight(self, rig: Rig) -> None:
        limits = Limits(tokens_per_day=150)
        await rig.ledger.admit([charged("r1", limits=limits)])
        assert (await rig.ledger.admit([charged("r2", limits=limits)])).outcome is SubmitOutcome.LIMITED
        [standing] = (await rig.ledger.admit([charged("r2", limits=limits)])).standings
        left_s = DAY_S - rig.wall_ms() / 1000 % DAY_S
        assert standing.decision.retry_after_s == pytest.approx(left_s, abs=1)
        await rig.pass_time(left_s + 1)
        assert remaining(await rig.ledger.admit([charged("r2", limits=limits)])) == {Limit.DAY: 50}
        await rig.ledger.cancel("r1")
        assert await self.standing(rig, charged("r2", limits=limits)) == {Limit.DAY: 50}

    async def test_refund_does_not_return_drained_tokens(self, rig: Rig) -> None:
        """The bucket holds what it would hold if the first request had reserved only what it used."""
        limits = Limits(tokens_per_minute=100)
        await rig.ledger.admit([charged("r1", limits=limits)])
        await rig.pass_time(60)
        second = charged("r2", limits=limits, max_tokens=48)
        await rig.ledger.admit([second])
        await rig.ledger.cancel("r1")
        assert await self.standing(rig, second) == {Limit.TOKENS: 50}

    async def test_refund_accounts_for_earlier_refunds(self, rig: Rig) -> None:
        """After the first refund, the reservation of the second request drains earlier."""
        limits = Limits(tokens_per_minute=200)
        await rig.ledger.admit([charged("r1", limits=limits), charged("r2", limits=limits)])
        await rig.ledger.cancel("r1")
        await rig.pass_time(30)
        third = charged("r3", limits=limits)
        await rig.ledger.admit([third])
        await rig.ledger.cancel("r2")
        assert await self.standing(rig, third) == {Limit.TOKENS: 100}

    async def test_logged_tokens_are_charged_although_the_end_says_less(self, rig: Rig) -> None:
        await rig.ledger.admit([charged("r")])
        [claim] = await rig.claim()
        await rig.write(claim, 1, 5)
        await rig.ledger.finish("r", claim.epoch, Failed("INTERRUPTED", "gone"))
        assert (await self.standing(rig, charged("r")))[Limit.DAY] == 1000 - PROMPT_TOKENS - 5
