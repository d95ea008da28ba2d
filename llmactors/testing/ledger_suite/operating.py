"""What operators ask of a ledger: what it has under way, the depths of its queues, and what to do with dead letters."""

# ruff: noqa: D101, S101

import attrs
import pytest

from llmactors import errors
from llmactors.ledger import (
    Candidate,
    ModelDemand,
    QueueDepth,
    ReleaseHow,
    RequestFilter,
    SubmitOutcome,
)
from llmactors.ledger.values import REQUEUED_GRACE_MS, ClaimEnd
from llmactors.limiter import charges_for
from llmactors.limiter.limits import Limits
from llmactors.messages import GenerateRequest
from llmactors.testing.ledger_suite.rig import Rig, finished, request


class QueueDepthSuite:
    async def test_depths_count_by_model_and_class(self, rig: Rig) -> None:
        assert await rig.ledger.queue_depths() == []
        await rig.submit(
            request("a"),
            request("b", tenant="other"),
            request("c", priority=2),
            request("d", model="m:2", tenant="t:1"),
            request("e", model="n"),
        )
        [claim] = await rig.claim(model="n")
        assert claim.request.id == "e"
        assert await rig.ledger.queue_depths() == [
            QueueDepth("m", 1, 2),
            QueueDepth("m", 2, 1),
            QueueDepth("m:2", 1, 1),
        ]

    async def test_depths_count_what_is_reserved(self, rig: Rig) -> None:
        await rig.submit(request("suspect"))
        await rig.crash(2, "suspect")
        await rig.submit(request("busy", model="n"))
        await rig.claim("w", model="n")
        assert await rig.ledger.claim("w", "m", 1) == []
        assert await rig.ledger.queue_depths() == [QueueDepth("m", 1, 1)]


class DemandSuite:
    async def test_demand_tells_how_long_the_first_waits(self, rig: Rig) -> None:
        assert await rig.ledger.demand(["m", "n"]) == []
        await rig.submit(request("a", tenant="t"))
        await rig.pass_time(2.0)
        await rig.submit(request("b", tenant="u"), request("c", priority=2), request("d", model="n:1"))
        await rig.submit(request("e", model="other"))
        await rig.pass_time(1.0)
        expected = [ModelDemand("m", 1, 2, 3.0), ModelDemand("m", 2, 1, 1.0), ModelDemand("n:1", 1, 1, 1.0)]
        found = await rig.ledger.demand(["n:1", "m"])
        assert [attrs.evolve(each, oldest_s=round(each.oldest_s, 2)) for each in found] == expected

    async def test_demand_forgets_what_is_claimed(self, rig: Rig) -> None:
        await rig.submit(request("a"), request("b"))
        await rig.claim("w", slots=1)
        assert [each.waiting for each in await rig.ledger.demand(["m"])] == [1]
        await rig.claim("w", slots=1)
        assert await rig.ledger.demand(["m"]) == []


class DeadLetterSuite:
    async def test_requeued_request_is_a_new_request(self, rig: Rig) -> None:
        await self._die(rig, request("old", tenant="t", priority=2, deadline_ms=rig.wall_ms() + 10))
        await rig.pass_time(0.02)
        assert await rig.ledger.requeue("old", "new") is SubmitOutcome.ACCEPTED
        assert await rig.ledger.dead_letters() == []
        info = await rig.ledger.info("new")
        assert (info.state, info.attempt, info.last_seq) == ("queued", 0, 0)
        expected = request("new", tenant="t", priority=2, deadline_ms=None, resume_grace_ms=REQUEUED_GRACE_MS)
        assert info.request == expected
        [claim] = await rig.claim()
        assert (claim.request.id, claim.attempt, claim.quarantined) == ("new", 1, False)
        await rig.write(claim, 1, 2, finished(2))
        assert (await rig.ledger.read("new")).end == finished(2)
        assert (await rig.ledger.info("old")).state == "ended"

    async def test_repeated_requeue_submits_once(self, rig: Rig) -> None:
        await self._die(rig, request("old"))
        assert await rig.ledger.requeue("old", "new") is SubmitOutcome.ACCEPTED
        assert await rig.ledger.requeue("old", "new") is SubmitOutcome.DUPLICATE
        assert (await rig.ledger.statistics()).queued == 1

    async def test_requeue_needs_a_dead_letter(self, rig: Rig) -> None:
        await rig.submit(request("waits"))
        for request_id in ("waits", "unknown"):
            with pytest.raises(errors.NotFound, match=f"no dead letter {request_id}"):
                await rig.ledger.requeue(request_id, "new")
        with pytest.raises(errors.NotFound):
            await rig.ledger.info("new")

    async def test_requeue_into_a_full_queue_changes_nothing(self, rig: Rig) -> None:
        await self._die(rig, request("old"))
        await rig.submit(*(request(f"r{each}") for each in range(rig.settings.max_queued)))
        assert await rig.ledger.requeue("old", "new") is SubmitOutcome.OVERLOADED
        assert [letter.request.id for letter in await rig.ledger.dead_letters()] == ["old"]
        await rig.ledger.cancel("r0")
        assert await rig.ledger.requeue("old", "new") is SubmitOutcome.ACCEPTED

    async def test_requeue_under_a_taken_id_changes_nothing(self, rig: Rig) -> None:
        await self._die(rig, request("old"))
        await rig.submit(request("taken", prompt="another"))
        assert await rig.ledger.requeue("old", "taken") is SubmitOutcome.CONFLICT
        assert (await rig.ledger.info("taken")).request == request("taken", prompt="another")
        assert len(await rig.ledger.dead_letters()) == 1

    async def test_purge_removes_one_dead_letter_or_all(self, rig: Rig) -> None:
        for request_id in ("a", "b", "c"):
            await self._die(rig, request(request_id))
        assert await rig.ledger.purge("b") == 1
        assert await rig.ledger.purge("b") == 0
        assert [letter.request.id for letter in await rig.ledger.dead_letters()] == ["a", "c"]
        assert await rig.ledger.purge() == 2
        assert await rig.ledger.purge() == 0
        statistics = attrs.asdict(await rig.ledger.statistics())
        assert (statistics["dead_letters"], statistics["ended"]) == (0, 3)

    async def test_new_dead_letter_is_taken_once(self, rig: Rig) -> None:
        assert await rig.ledger.take_new_dead_letters() == []
        await self._die(rig, request("a"))
        await self._die(rig, request("b"))
        taken = await rig.ledger.take_new_dead_letters()
        assert [(letter.request.id, letter.cause) for letter in taken] == [("a", "because"), ("b", "because")]
        assert taken == await rig.ledger.dead_letters()
        await rig.ledger.purge("b")
        await self._die(rig, request("c"))
        assert [letter.request.id for letter in await rig.ledger.take_new_dead_letters()] == ["c"]
        assert await rig.ledger.take_new_dead_letters() == []

    async def _die(self, rig: Rig, submitted: GenerateRequest) -> None:
        claim = await rig.start(submitted)
        await rig.ledger.release(submitted.id, claim.epoch, ReleaseHow.FATAL, "because")


class InspectionSuite:
    async def test_open_requests_are_shown_oldest_first(self, rig: Rig) -> None:
        assert (await rig.ledger.open_requests(RequestFilter(), 10)).total == 0
        await rig.submit(request("a", tenant="<script>", key_id="k1"))
        await rig.pass_time(2.0)
        await rig.submit(request("b", model="n", priority=2))
        [claim] = await rig.claim("w", slots=1)
        await rig.write(claim, 1, 3)
        found = await rig.ledger.open_requests(RequestFilter(), 10)
        assert found.total == 2
        running, queued = found.shown
        assert (running.id, running.tenant, running.model, running.priority) == ("a", "<script>", "m", 1)
        assert (running.key_id, queued.key_id) == ("k1", "")
        assert (running.state, running.tokens, running.attempt, running.worker) == ("running", 3, 1, "w")
        assert (running.epoch, running.takeovers, round(running.age_s, 1)) == (claim.epoch, 0, 2.0)
        assert (queued.id, queued.state, queued.tokens, queued.attempt, queued.worker) == ("b", "queued", 0, 0, None)
        await rig.ledger.cancel("a")
        assert [each.id for each in (await rig.ledger.open_requests(RequestFilter(), 10)).shown] == ["b"]

    async def test_open_requests_are_filtered_and_limited(self, rig: Rig) -> None:
        for number in range(3):
            await rig.submit(request(f"a{number}", tenant="t"), request(f"b{number}", model="n"))
            await rig.pass_time(0.01)
        await rig.claim("w", model="n", slots=1)

        async def ids(limit: int, **wanted: str) -> tuple[list[str], int]:
            found = await rig.ledger.open_requests(RequestFilter(**wanted), limit)
            return [each.id for each in found.shown], found.total

        assert await ids(2, tenant="t") == (["a0", "a1"], 3)
        assert await ids(9, model="n", state="queued") == (["b1", "b2"], 2)
        assert await ids(0, state="running") == ([], 1)
        assert await ids(9, tenant="nobody") == ([], 0)

    async def test_times_tell_the_life_of_a_request(self, rig: Rig) -> None:
        with pytest.raises(errors.NotFound):
            await rig.ledger.request_times("unknown")
        await rig.submit(request("a"))
        admitted_ms = rig.wall_ms()
        times = await rig.ledger.request_times("a")
        assert (times.admitted_ms, times.first_token_ms, times.ended_ms, times.end) == (admitted_ms, None, None, None)
        await rig.pass_time(1.0)
        [claim] = await rig.claim()
        await rig.write(claim, 1, 1)
        await rig.pass_time(0.25)
        await rig.ledger.release("a", claim.epoch, ReleaseHow.FAILED, "because")
        [again] = await rig.claim()
        await rig.write(again, 2, 2, finished(2))
        times = await rig.ledger.request_times("a")
        assert (times.view.state, times.view.takeovers, times.view.tokens) == ("ended", 1, 2)
        assert times.first_token_ms is not None
        assert times.ended_ms is not None
        waited_ms, ran_ms = times.first_token_ms - admitted_ms, times.ended_ms - times.first_token_ms
        assert times.admitted_ms == admitted_ms
        assert waited_ms >= 1000
        assert ran_ms >= 250
        assert times.end == finished(2)
        assert [(note.epoch, note.worker, note.ended, note.detail) for note in times.claims] == [
            (claim.epoch, "w", ClaimEnd.CRASHED, "because"),
            (again.epoch, "w", None, ""),
        ]

    async def test_standings_tell_what_is_used(self, rig: Rig) -> None:
        limits = Limits(requests_per_minute=10, tokens_per_day=1000, concurrent=3)
        charges = charges_for(limits, "t", tokens=100)
        other = charges_for(limits, "u", tokens=100)
        assert await rig.ledger.standings([]) == []
        await rig.ledger.admit([Candidate(request("a", tenant="t"), charges)])
        for _ in range(2):
            found = await rig.ledger.standings([*charges, *other])
            assert [each.charge.key for each in found] == [each.key for each in (*charges, *other)]
            used = [each.decision.limit - each.decision.remaining for each in found]
            assert used == [1, 100, 1, 0, 0, 0]

    async def test_shares_add_up_what_each_tenant_has(self, rig: Rig) -> None:
        assert await rig.ledger.queue_shares(["m"]) == []
        await rig.submit(request("a", tenant="t:1"), request("b", tenant="u"))
        await rig.pass_time(1.0)
        await rig.submit(request("c", tenant="t:1"), request("d", priority=2), request("e", model="n"))
        await rig.claim("w", model="n")
        found = await rig.ledger.queue_shares(["m", "n"])
        assert [(each.model, each.priority, each.tenant, each.waiting) for each in found[:2]] == [
            ("m", 1, "t:1", 2),
            ("m", 1, "u", 1),
        ]
        assert [(each.priority, round(each.oldest_s, 1)) for each in found] == [(1, 1.0), (1, 1.0), (2, 0.0)]
        assert found[0].cost == 2 * found[1].cost > 0
