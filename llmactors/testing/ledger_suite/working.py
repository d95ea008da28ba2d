"""Promises about workers: leases, attempts, quarantine, and the news of work."""

# ruff: noqa: D101, S101

import trio

from llmactors.ledger import AppendOutcome, ReleaseHow
from llmactors.messages import Failed
from llmactors.testing.ledger_suite.rig import Rig, code_of, finished, request, tokens


class LeaseSuite:
    async def test_worker_that_beats_keeps_its_requests(self, rig: Rig) -> None:
        claim = await rig.start()
        for _ in range(6):
            await rig.pass_time(rig.settings.lease_s / 3)
            assert (await rig.ledger.beat("w")).live
            assert await rig.ledger.reap() == 0
        assert await rig.write(claim, 1, 1) is AppendOutcome.OK

    async def test_silent_worker_loses_its_requests(self, rig: Rig) -> None:
        old = await rig.start(worker="w1")
        await rig.write(old, 1, 2)
        await rig.fall_silent()
        assert await rig.ledger.reap() == 1
        assert await rig.write(old, 3, 3) is AppendOutcome.FENCED
        [new] = await rig.claim("w2")
        assert (new.attempt, new.tokens) == (2, tokens(1, 2))

    async def test_dead_worker_stays_dead(self, rig: Rig) -> None:
        await rig.start(worker="w1")
        await rig.pass_time(rig.settings.lease_s + 0.01)
        for _ in range(2):
            assert not (await rig.ledger.beat("w1")).live
            await rig.ledger.reap()
        assert await rig.ledger.claim("w1", "m", 1) == []
        assert (await rig.ledger.info("r")).state == "queued"
        assert (await rig.ledger.statistics()).workers == 0

    async def test_overdue_worker_claims_nothing_even_before_reap(self, rig: Rig) -> None:
        await rig.ledger.beat("w1")
        await rig.pass_time(rig.settings.lease_s + 0.01)
        await rig.submit(request())
        assert await rig.ledger.claim("w1", "m", 1) == []

    async def test_leave_requeues_all_requests_of_the_worker(self, rig: Rig) -> None:
        await rig.submit(request("a"), request("b"))
        await rig.claim("w1", slots=2)
        for _ in range(2):
            await rig.ledger.leave("w1")
        assert not (await rig.ledger.beat("w1")).live
        claims = await rig.claim("w2", slots=3)
        assert [(claim.request.id, claim.attempt) for claim in claims] == [("a", 2), ("b", 2)]
        assert (await rig.ledger.statistics()).requeued_total == 2

    async def test_leave_of_an_unknown_worker_is_no_error(self, rig: Rig) -> None:
        await rig.ledger.leave("stranger")


class AttemptSuite:
    async def test_failed_attempt_counts(self, rig: Rig) -> None:
        claim = await rig.start()
        assert (await rig.ledger.release("r", claim.epoch, ReleaseHow.FAILED)).outcome is AppendOutcome.OK
        [again] = await rig.claim()
        assert again.epoch > claim.epoch
        assert again.attempt == 2

    async def test_drain_returns_its_attempt(self, rig: Rig) -> None:
        await rig.submit(request())
        epoch = 0
        for _ in range(5):
            [claim] = await rig.claim()
            assert claim.epoch > epoch
            assert (claim.attempt, claim.quarantined) == (1, False)
            epoch = claim.epoch
            assert (await rig.ledger.release("r", claim.epoch, ReleaseHow.SILENT)).outcome is AppendOutcome.OK

    async def test_repeated_release_counts_once(self, rig: Rig) -> None:
        claim = await rig.start()
        await rig.ledger.release("r", claim.epoch, ReleaseHow.FAILED)
        repeated = await rig.ledger.release("r", claim.epoch, ReleaseHow.FAILED)
        assert repeated.outcome is AppendOutcome.FENCED
        [again] = await rig.claim()
        assert again.attempt == 2

    async def test_fatal_release_makes_a_dead_letter(self, rig: Rig) -> None:
        claim = await rig.start()
        before_ms = rig.wall_ms()
        await rig.ledger.release("r", claim.epoch, ReleaseHow.FATAL, "the prompt is too long")
        assert (await rig.ledger.read("r")).end == Failed("BACKEND_FAILED", "the prompt is too long")
        assert await rig.claim() == []
        [letter] = await rig.ledger.dead_letters()
        assert (letter.request, letter.attempt, letter.cause) == (request(), 1, "the prompt is too long")
        assert before_ms <= letter.at_ms <= rig.wall_ms()

    async def test_newest_dead_letters_are_kept_up_to_a_bound(self, rig: Rig) -> None:
        kept = rig.settings.dead_letters_kept
        for each in range(kept + 2):
            claim = await rig.start(request(f"r{each}"))
            await rig.ledger.release(claim.request.id, claim.epoch, ReleaseHow.FATAL)
        letters = await rig.ledger.dead_letters()
        assert [letter.request.id for letter in letters] == [f"r{each}" for each in range(2, kept + 2)]


class QuarantineSuite:
    async def test_two_lost_workers_do_not_separate_their_batch(self, rig: Rig) -> None:
        await rig.submit(request("a"), request("b"))
        for worker in ("w1", "w2"):
            assert len(await rig.claim(worker, slots=4)) == 2
            await rig.ledger.leave(worker)
        assert (await rig.ledger.statistics()).quarantined == 2

    async def test_third_attempt_runs_alone(self, rig: Rig) -> None:
        await rig.submit(request())
        await rig.crash(times=2)
        await rig.submit(request("other"))
        [claim] = await rig.claim(slots=4)
        assert (claim.request.id, claim.attempt, claim.quarantined) == ("r", 3, True)
        assert await rig.claim(slots=4) == []
        await rig.ledger.finish("r", claim.epoch, finished(0))
        assert [each.request.id for each in await rig.claim(slots=4)] == ["other"]
        assert (await rig.ledger.statistics()).quarantined == 0

    async def test_crash_of_a_lone_request_convicts_it(self, rig: Rig) -> None:
        await rig.submit(request())
        await rig.crash(times=3)
        assert code_of((await rig.ledger.read("r")).end) == "POISONED"
        [letter] = await rig.ledger.dead_letters()
        assert (letter.request.id, letter.attempt) == ("r", 3)
        statistics = await rig.ledger.statistics()
        assert (statistics.quarantined, statistics.queued, statistics.dead_letters) == (0, 0, 1)

    async def test_request_that_gets_further_is_never_convicted(self, rig: Rig) -> None:
        """Neither by deaths nor by silences; and the deaths before that brought no progress still count."""
        await rig.submit(request())
        await rig.crash(times=2)
        length = 0
        for each in range(4):
            worker = f"w{each}"
            [claim] = await rig.claim(worker)
            assert (claim.attempt, len(claim.tokens)) == (3, length)
            length += rig.settings.progress_tokens
            assert await rig.write(claim, len(claim.tokens) + 1, length) is AppendOutcome.OK
            if each % 2:
                await rig.fall_silent()
                await rig.ledger.reap()
            else:
                await rig.ledger.release("r", claim.epoch, ReleaseHow.FAILED, "out of memory")
        info = await rig.ledger.info("r")
        assert (info.state, info.attempt, info.last_seq) == ("queued", 2, length)
        [claim] = await rig.claim("last")
        await rig.write(claim, length + 1, length + rig.settings.progress_tokens - 1)
        await rig.ledger.release("r", claim.epoch, ReleaseHow.FAILED, "out of memory")
        assert code_of((await rig.ledger.read("r")).end) == "POISONED"

    async def test_crash_of_a_batch_convicts_nobody_and_splits_it(self, rig: Rig) -> None:
        await rig.submit(request("a"), request("b"), request("c"))
        for worker in ("w1", "w2"):
            assert len(await rig.claim(worker, slots=4)) == 3
            await rig.ledger.leave(worker)
        two = await rig.claim("w3", slots=4)
        assert [claim.request.id for claim in two] == ["a", "b"]
        assert await rig.claim("w3", slots=4) == []
        for claim in two:
            await rig.ledger.release(claim.request.id, claim.epoch, ReleaseHow.FAILED, "segmentation fault")
        assert (await rig.ledger.statistics()).dead_letters == 0
        for name in ("a", "b", "c"):
            [alone] = await rig.claim("w3", slots=1 if name == "c" else 4)
            assert alone.request.id == name
            await rig.ledger.release(name, alone.epoch, ReleaseHow.FAILED, "segmentation fault")
        assert [letter.request.id for letter in await rig.ledger.dead_letters()] == ["a", "b", "c"]

    async def test_suspects_share_a_worker_with_nobody_else(self, rig: Rig) -> None:
        await rig.submit(request("a"), request("b"))
        for worker in ("w1", "w2"):
            await rig.claim(worker, slots=4)
            await rig.ledger.leave(worker)
        await rig.submit(request("innocent"))
        suspects = await rig.claim("w3", slots=4)
        assert [claim.request.id for claim in suspects] == ["a", "b"]
        await rig.ledger.finish("a", suspects[0].epoch, finished(0))
        assert await rig.claim("w3", slots=4) == []
        await rig.ledger.finish("b", suspects[1].epoch, finished(0))
        assert [claim.request.id for claim in await rig.claim("w3", slots=4)] == ["innocent"]

    async def test_failed_release_convicts_too(self, rig: Rig) -> None:
        await rig.submit(request())
        await rig.crash(times=2)
        [claim] = await rig.claim()
        await rig.ledger.release("r", claim.epoch, ReleaseHow.FAILED, "segmentation fault")
        assert [letter.cause for letter in await rig.ledger.dead_letters()] == ["segmentation fault"]

    async def test_drain_in_quarantine_convicts_nobody(self, rig: Rig) -> None:
        await rig.submit(request())
        await rig.crash(times=2)
        for _ in range(3):
            [claim] = await rig.claim()
            assert (claim.attempt, claim.quarantined) == (3, True)
            await rig.ledger.release("r", claim.epoch, ReleaseHow.SILENT)

    async def test_quarantined_request_gets_a_busy_worker_once_empty(self, rig: Rig) -> None:
        await rig.submit(request("busy"))
        [busy] = await rig.claim("w1")
        await rig.submit(request())
        await rig.crash(times=2)
        await rig.submit(*(request(f"later{each}") for each in range(4)))
        # The request is reserved for w1, which gets nothing until it is empty; w2 skips the request.
        assert await rig.claim("w1", slots=4) == []
        assert [claim.request.id for claim in await rig.claim("w2", slots=2)] == ["later0", "later1"]
        assert await rig.claim("w1", slots=4) == []
        assert (await rig.ledger.statistics()).queued == 3
        await rig.ledger.finish("busy", busy.epoch, finished(0))
        assert [claim.request.id for claim in await rig.claim("w2")] == ["later2"]
        [alone] = await rig.claim("w1", slots=4)
        assert (alone.request.id, alone.quarantined) == ("r", True)

    async def test_reservation_ends_with_the_lease(self, rig: Rig) -> None:
        await rig.submit(request("busy"))
        await rig.claim("w1")
        await rig.submit(request())
        await rig.crash(times=2)
        assert await rig.claim("w1") == []
        await rig.ledger.leave("w1")
        claims = await rig.claim("w2") + await rig.claim("w3", slots=4)
        assert [(claim.request.id, claim.attempt) for claim in claims] == [("busy", 2), ("r", 3)]

    async def test_reservation_ends_with_the_request(self, rig: Rig) -> None:
        await rig.submit(request("busy"))
        await rig.claim("w1")
        await rig.submit(request())
        await rig.crash(times=2)
        await rig.submit(request("later"))
        assert await rig.claim("w1") == []
        await rig.ledger.cancel("r")
        assert [claim.request.id for claim in await rig.claim("w1")] == ["later"]


class WorkSuite:
    async def test_waiting_worker_is_told_of_a_request(self, rig: Rig) -> None:
        await rig.claim()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_claimed, rig)
            await rig.pass_time(0.05)
            await rig.submit(request())

    async def test_waiting_worker_is_told_of_a_requeued_request(self, rig: Rig) -> None:
        claim = await rig.start(worker="other")
        await rig.claim()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_claimed, rig)
            await rig.pass_time(0.05)
            await rig.ledger.release("r", claim.epoch, ReleaseHow.FAILED)

    async def test_news_between_two_waits_is_not_missed(self, rig: Rig) -> None:
        await rig.claim()
        await rig.submit(request())
        with trio.fail_after(rig.settings.lease_s):
            await self._until_claimed(rig)

    async def test_waiting_worker_is_told_of_a_cancel(self, rig: Rig) -> None:
        claim = await rig.start()
        stopped = trio.Event()

        async def work() -> None:
            while not (await rig.ledger.beat("w")).stop:
                await rig.ledger.wait_work("w", "m")
            stopped.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await rig.pass_time(0.05)
            assert not stopped.is_set()
            await rig.ledger.cancel("r")
            with trio.fail_after(rig.settings.lease_s):
                await stopped.wait()
        assert await rig.write(claim, 1, 1) is AppendOutcome.STOP

    async def _until_claimed(self, rig: Rig) -> None:
        while not await rig.claim():
            await rig.ledger.wait_work("w", "m")
