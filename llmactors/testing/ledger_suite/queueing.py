"""Promises about the queue: what is accepted, and which request is claimed next."""

# ruff: noqa: D101, S101

from llmactors.ledger import ReleaseHow, SubmitOutcome
from llmactors.testing.ledger_suite.rig import Rig, finished, request


class SubmitSuite:
    async def test_submitted_request_is_queued_with_an_empty_log(self, rig: Rig) -> None:
        await rig.submit(request())
        info = await rig.ledger.info("r")
        assert (info.request, info.state, info.epoch, info.attempt, info.last_seq) == (request(), "queued", 0, 0, 0)

    async def test_repeated_submit_changes_nothing(self, rig: Rig) -> None:
        await rig.submit(request())
        assert await rig.ledger.submit(request()) is SubmitOutcome.DUPLICATE
        assert (await rig.ledger.statistics()).queued == 1
        [claim] = await rig.claim(slots=2)
        assert await rig.ledger.submit(request()) is SubmitOutcome.DUPLICATE
        await rig.ledger.finish("r", claim.epoch, finished(0))
        assert await rig.ledger.submit(request()) is SubmitOutcome.DUPLICATE
        assert await rig.claim() == []

    async def test_same_id_with_another_body_is_a_conflict(self, rig: Rig) -> None:
        await rig.submit(request())
        assert await rig.ledger.submit(request(prompt="ho")) is SubmitOutcome.CONFLICT
        assert (await rig.ledger.info("r")).request == request()

    async def test_expired_request_is_not_run_again(self, rig: Rig) -> None:
        await rig.submit(request())
        await rig.ledger.cancel("r")
        await rig.pass_time(rig.settings.retention_s + 0.01)
        await rig.ledger.reap()
        assert await rig.ledger.submit(request()) is not SubmitOutcome.ACCEPTED
        assert await rig.claim() == []

    async def test_queue_is_bounded_in_requests(self, rig: Rig) -> None:
        most = rig.settings.max_queued
        await rig.submit(*(request(f"r{each}") for each in range(most)))
        assert await rig.ledger.submit(request("more")) is SubmitOutcome.OVERLOADED
        assert await rig.ledger.submit(request("r0")) is SubmitOutcome.DUPLICATE
        await rig.ledger.cancel("r0")
        await rig.submit(request("more"))

    async def test_queue_is_bounded_in_bytes(self, rig: Rig) -> None:
        half = "ä" * (rig.settings.max_queued_bytes // 4)
        await rig.submit(request("r1", prompt=half), request("r2", prompt=half))
        assert await rig.ledger.submit(request("r3", prompt="ä")) is SubmitOutcome.OVERLOADED
        assert len(await rig.claim()) == 1
        await rig.submit(request("r3", prompt="ä"))

    async def test_accepted_request_returns_to_a_full_queue(self, rig: Rig) -> None:
        claim = await rig.start()
        most = rig.settings.max_queued
        await rig.submit(*(request(f"r{each}") for each in range(most)))
        await rig.ledger.release("r", claim.epoch, ReleaseHow.FAILED)
        assert (await rig.ledger.statistics()).queued == most + 1
        assert len(await rig.claim(slots=most + 2)) == most + 1


class ClaimSuite:
    async def test_worker_without_a_lease_claims_nothing(self, rig: Rig) -> None:
        await rig.submit(request())
        assert await rig.ledger.claim("stranger", "m", 1) == []

    async def test_claim_returns_at_most_the_free_slots(self, rig: Rig) -> None:
        await rig.submit(*(request(f"r{each}") for each in range(3)))
        assert [claim.request.id for claim in await rig.claim(slots=2)] == ["r0", "r1"]
        assert await rig.claim(slots=0) == []
        assert [claim.request.id for claim in await rig.claim(slots=2)] == ["r2"]

    async def test_request_is_claimed_by_one_worker_only(self, rig: Rig) -> None:
        await rig.submit(request())
        assert len(await rig.claim("w1")) == 1
        assert await rig.claim("w1") == []
        assert await rig.claim("w2") == []

    async def test_claim_is_for_one_model(self, rig: Rig) -> None:
        await rig.submit(request("a", model="one"), request("b", model="two"))
        assert [claim.request.id for claim in await rig.claim(slots=9, model="two")] == ["b"]
        assert await rig.claim(slots=9, model="three") == []

    async def test_first_claim_raises_the_epoch_and_is_attempt_one(self, rig: Rig) -> None:
        claim = await rig.start()
        assert (claim.request, claim.attempt) == (request(), 1)
        assert claim.epoch > 0
        assert not claim.quarantined
        assert claim.tokens == ()
        info = await rig.ledger.info("r")
        assert (info.state, info.epoch, info.attempt) == ("running", claim.epoch, 1)

    async def test_claim_says_how_long_the_request_was_queued(self, rig: Rig) -> None:
        await rig.submit(request())
        for wait_s in (0.3, 0.1):
            await rig.pass_time(wait_s)
            [claim] = await rig.claim()
            assert wait_s - 0.01 <= claim.waited_s < wait_s + 0.1
            await rig.pass_time(0.2)
            await rig.ledger.release("r", claim.epoch, ReleaseHow.SILENT)

    async def test_one_tenant_does_not_starve_another(self, rig: Rig) -> None:
        await rig.submit(*(request(f"a{each}", tenant="a") for each in range(8)), request("b", tenant="b"))
        assert "b" in [claim.request.id for claim in await rig.claim(slots=2)]

    async def test_tenant_with_small_requests_is_served_more_of_them(self, rig: Rig) -> None:
        for each in range(4):
            await rig.submit(request(f"big{each}", tenant="big", max_tokens=300))
        for each in range(8):
            await rig.submit(request(f"small{each}", tenant="small", max_tokens=100))
        first = [claim.request.id for claim in await rig.claim(slots=8)]
        assert 5 <= sum(each.startswith("small") for each in first) <= 7

    async def test_more_urgent_class_is_claimed_first(self, rig: Rig) -> None:
        await rig.submit(request("late", priority=2), request("usual"), request("soon", priority=0))
        assert [claim.request.id for claim in await rig.claim(slots=3)] == ["soon", "usual", "late"]

    async def test_starved_class_gets_one_turn_at_a_time(self, rig: Rig) -> None:
        await rig.submit(request("late0", priority=2), request("late1", priority=2))
        served: list[str] = []
        for number in range(40):
            await rig.submit(request(f"soon{number}", priority=0))
            served += [claim.request.id for claim in await rig.claim()]
        first, second = served.index("late0"), served.index("late1")
        assert first >= 10
        assert second - first >= 10

    async def test_released_request_goes_before_later_requests(self, rig: Rig) -> None:
        await rig.submit(*(request(f"r{each}") for each in range(4)))
        first, second = await rig.claim(slots=2)
        await rig.ledger.release("r1", second.epoch, ReleaseHow.FAILED)
        await rig.ledger.release("r0", first.epoch, ReleaseHow.FAILED)
        assert [claim.request.id for claim in await rig.claim(slots=4)] == ["r0", "r1", "r2", "r3"]

    async def test_tenant_of_twice_the_weight_gets_twice_the_tokens(self, rig: Rig) -> None:
        for each in range(6):
            await rig.submit(request(f"light{each}", tenant="light", max_tokens=100))
            await rig.submit(request(f"heavy{each}", tenant="heavy", max_tokens=100, weight=2.0))
        served = [claim.request.tenant for _ in range(6) for claim in await rig.claim()]
        assert (served.count("heavy"), served.count("light")) == (4, 2)


class WaitSuite:
    async def test_expected_wait_is_zero_for_an_empty_queue(self, rig: Rig) -> None:
        assert await rig.ledger.expected_wait_s(request()) == 0
        await rig.start()
        assert await rig.ledger.expected_wait_s(request("s")) == 0

    async def test_expected_wait_follows_from_queue_length_and_rate(self, rig: Rig) -> None:
        await rig.submit(*(request(f"r{each}") for each in range(12)))
        for _ in range(5):
            await rig.claim()
            await rig.pass_time(0.2)
        # Seven requests are queued, and one is claimed every 0.2 seconds.
        assert 1.0 < await rig.ledger.expected_wait_s(request("new")) < 2.0
        # Another tenant waits only for its turn among the tenants.
        assert 0.1 < await rig.ledger.expected_wait_s(request("new", tenant="other")) < 0.4

    async def test_expected_wait_grows_while_the_queue_stands_still(self, rig: Rig) -> None:
        await rig.start()
        await rig.submit(request("r1"), request("r2"))
        assert await rig.ledger.expected_wait_s(request("new")) == 0  # the rate of the queue is not known yet
        await rig.pass_time(2.0)
        assert 3.5 < await rig.ledger.expected_wait_s(request("new")) < 5.0
        await rig.ledger.cancel("r1")
        await rig.ledger.cancel("r2")
        assert await rig.ledger.expected_wait_s(request("new")) == 0

    async def test_expected_wait_is_shorter_for_urgent_requests(self, rig: Rig) -> None:
        await rig.submit(*(request(f"r{each}") for each in range(9)))
        for _ in range(4):
            await rig.claim()
            await rig.pass_time(0.2)
        assert await rig.ledger.expected_wait_s(request("urgent", priority=0)) == 0
        usual, late = [await rig.ledger.expected_wait_s(request("x", priority=each)) for each in (1, 2)]
        assert 0 < usual <= late


class PlaceSuite:
    async def test_place_of_a_request_that_does_not_wait_is_none(self, rig: Rig) -> None:
        claim = await rig.start()
        await rig.submit(request("w"))
        first, running, unknown = await rig.ledger.places(["w", "r", "nobody"])
        assert first is not None
        assert (first.place, running, unknown) == (1, None, None)
        await rig.ledger.finish("r", claim.epoch, finished(0))
        assert await rig.ledger.places(["r"]) == [None]
        assert await rig.ledger.places([]) == []

    async def test_place_counts_the_requests_that_are_claimed_first(self, rig: Rig) -> None:
        await rig.submit(*(request(f"a{each}", tenant="a") for each in range(4)))
        await rig.submit(request("b0", tenant="b"), request("soon", priority=0), request("late", priority=2))
        await rig.submit(request("other", model="other"))
        names = ["soon", "a0", "b0", "a1", "a2", "a3", "late", "other"]
        found = [place.place for place in await rig.ledger.places(names) if place is not None]
        assert found == [1, 3, 3, 4, 5, 6, 7, 1]  # two tenants' first requests share a place: either may come first

    async def test_place_falls_as_requests_before_it_are_claimed(self, rig: Rig) -> None:
        await rig.submit(*(request(f"r{each}") for each in range(5)))
        places = []
        for _ in range(4):
            places += [place.place for place in await rig.ledger.places(["r4"]) if place is not None]
            await rig.claim()
        assert places == [5, 4, 3, 2]

    async def test_request_that_returns_has_the_first_place(self, rig: Rig) -> None:
        await rig.submit(*(request(f"r{each}") for each in range(4)))
        [claim] = await rig.claim()
        await rig.ledger.release("r0", claim.epoch, ReleaseHow.FAILED)
        assert [place and place.place for place in await rig.ledger.places(["r0", "r1"])] == [1, 2]

    async def test_wait_of_a_place_follows_the_rate_of_the_queue(self, rig: Rig) -> None:
        await rig.submit(*(request(f"r{each}") for each in range(12)))
        [place] = await rig.ledger.places(["r11"])
        assert place is not None
        assert place.wait_s is None  # the rate of the queue is not known yet
        for _ in range(5):
            await rig.claim()
            await rig.pass_time(0.2)
        [place] = await rig.ledger.places(["r11"])
        assert place is not None
        assert place.wait_s is not None
        assert 1.0 < place.wait_s < 2.0  # seven requests are queued, and one is claimed every 0.2 seconds
