"""Promises about requests that end without their worker: by a client, by a deadline, or for want of a reader."""

# ruff: noqa: D101, S101

import contextlib
from typing import Any

import pytest

from llmactors import errors
from llmactors.ledger import AppendOutcome, SubmitOutcome
from llmactors.messages import Finished, Usage
from llmactors.testing.ledger_suite.rig import Rig, code_of, finished, request, tokens


class CancelSuite:
    async def test_cancelled_request_is_not_claimed(self, rig: Rig) -> None:
        await rig.submit(request())
        assert await rig.ledger.cancel("r")
        assert not await rig.ledger.cancel("r")
        assert (await rig.ledger.read("r")).end == Finished("cancelled", Usage(0, 0))
        assert await rig.claim() == []

    async def test_cancelled_request_ends_at_once_with_its_tokens(self, rig: Rig) -> None:
        claim = await rig.start()
        await rig.write(claim, 1, 2)
        assert await rig.ledger.cancel("r")
        found = await rig.ledger.read("r")
        assert (tuple(found.deltas), found.end) == (tokens(1, 2), Finished("cancelled", Usage(0, 2)))
        assert await rig.write(claim, 3, 3) is AppendOutcome.STOP
        assert (await rig.ledger.finish("r", claim.epoch, finished(2))).outcome is AppendOutcome.STOP

    async def test_beat_reports_stopped_requests_for_one_lease(self, rig: Rig) -> None:
        claim = await rig.start()
        assert (await rig.ledger.beat("w")).stop == ()
        await rig.ledger.cancel("r")
        for _ in range(2):
            assert (await rig.ledger.beat("w")).stop == (("r", claim.epoch),)
        for _ in range(4):
            await rig.pass_time(rig.settings.lease_s / 2)
            assert (await rig.ledger.beat("w")).live
        assert (await rig.ledger.beat("w")).stop == ()

    async def test_beat_does_not_report_requests_the_worker_finished(self, rig: Rig) -> None:
        claim = await rig.start()
        await rig.ledger.finish("r", claim.epoch, finished(0))
        assert (await rig.ledger.beat("w")).stop == ()

    async def test_cancel_frees_the_slot_at_once(self, rig: Rig) -> None:
        await rig.start()
        await rig.ledger.cancel("r")
        statistics = await rig.ledger.statistics()
        assert (statistics.running, statistics.ended) == (0, 1)


class ArchiveSuite:
    async def test_tenant_evicts_its_own_answers_first(self, rig: Rig) -> None:
        kept = rig.settings.retained_max
        await self._end_many(rig, "quiet", 2, tenant="quiet")
        await self._end_many(rig, "loud", 2 * kept, tenant="loud")
        await self._end_many(rig, "late", 3, tenant="late")
        for name in ("quiet-0", "quiet-1", "late-0", "late-2", f"loud-{2 * kept - 1}"):
            assert (await rig.ledger.read(name)).end == finished(1)
        for name in ("loud-0", f"loud-{kept}"):
            with pytest.raises(errors.Expired):
                await rig.ledger.read(name)
        assert (await rig.ledger.statistics()).ended == kept

    async def test_answers_kept_long_do_not_evict_new_ones(self, rig: Rig) -> None:
        """A client still reads an answer that has just ended, so what ended first goes first."""
        kept = rig.settings.retained_max
        for prefix, count in {"oldest": 3, "stored": kept - 3}.items():
            await self._end_many(rig, prefix, count, retention_ms=3_600_000)
            await rig.pass_time(0.01)
        await self._end_many(rig, "new", 3)
        for name in ("new-0", "new-2", "stored-0", f"stored-{kept - 4}"):
            assert (await rig.ledger.read(name)).end == finished(1)
        with pytest.raises(errors.Expired):
            await rig.ledger.read("oldest-2")

    async def test_answers_that_are_read_are_evicted_last(self, rig: Rig) -> None:
        kept = rig.settings.retained_max
        claim = await rig.start(request("read"))
        with await rig.ledger.follow("read"):
            await rig.write(claim, 1, 1, finished(1))
            await rig.pass_time(0.01)
            await self._end_many(rig, "old", 1)
            await rig.pass_time(0.01)
            await rig.pass_time(0.01)
            await self._end_many(rig, "new", kept - 1)
            assert (await rig.ledger.read("read")).end == finished(1)
            with pytest.raises(errors.Expired):
                await rig.ledger.read("old-0")
            assert (await rig.ledger.statistics()).ended == kept

    async def test_answers_that_are_read_are_evicted_at_the_bound(self, rig: Rig) -> None:
        kept = rig.settings.retained_max
        with contextlib.ExitStack() as reading:
            for each in range(kept + 2):
                claim = await rig.start(request(f"r{each}"))
                reading.enter_context(await rig.ledger.follow(f"r{each}"))
                await rig.write(claim, 1, 1, finished(1))
            assert (await rig.ledger.statistics()).ended == kept
            assert (await rig.ledger.read(f"r{kept + 1}")).end == finished(1)

    async def _end_many(self, rig: Rig, prefix: str, count: int, **more: Any) -> None:
        for each in range(count):
            claim = await rig.start(request(f"{prefix}-{each}", **more))
            assert await rig.write(claim, 1, 1, finished(1)) is AppendOutcome.OK

    async def test_forgotten_request_is_expired_at_once(self, rig: Rig) -> None:
        claim = await rig.start(request("ended"))
        await rig.write(claim, 1, 2, finished(2))
        await rig.start(request("running"))
        for name in ("ended", "running"):
            await rig.ledger.forget(name)
            for ask in (rig.ledger.info, rig.ledger.read, rig.ledger.forget):
                with pytest.raises(errors.Expired):
                    await ask(name)
        assert await rig.ledger.submit(request("ended")) is SubmitOutcome.DUPLICATE
        statistics = await rig.ledger.statistics()
        assert (statistics.running, statistics.ended, statistics.log_tokens) == (0, 0, 0)
        with pytest.raises(errors.NotFound):
            await rig.ledger.forget("unknown")


class DeadlineSuite:
    async def test_queued_request_past_its_deadline_is_never_claimed(self, rig: Rig) -> None:
        await rig.submit(request(deadline_ms=rig.wall_ms() + 100))
        await rig.pass_time(0.15)
        assert await rig.claim() == []
        await rig.ledger.reap()
        assert code_of((await rig.ledger.read("r")).end) == "DEADLINE_EXCEEDED"

    async def test_running_request_ends_at_its_deadline(self, rig: Rig) -> None:
        claim = await rig.start(request(deadline_ms=rig.wall_ms() + 100))
        await rig.write(claim, 1, 2)
        assert await rig.ledger.reap() == 0
        await rig.pass_time(0.15)
        assert await rig.ledger.reap() == 1
        found = await rig.ledger.read("r")
        assert (tuple(found.deltas), code_of(found.end)) == (tokens(1, 2), "DEADLINE_EXCEEDED")
        assert await rig.write(claim, 3, 3) is AppendOutcome.STOP
        assert (await rig.ledger.beat("w")).stop == (("r", claim.epoch),)

    async def test_timeout_counts_from_the_admission(self, rig: Rig) -> None:
        await rig.submit(request(timeout_ms=100))
        assert await rig.ledger.reap() == 0
        await rig.pass_time(0.15)
        assert await rig.claim() == []
        await rig.ledger.reap()
        assert code_of((await rig.ledger.read("r")).end) == "DEADLINE_EXCEEDED"

    async def test_reap_foresees_the_next_deadline(self, rig: Rig) -> None:
        await rig.submit(request("a", timeout_ms=60_000, resume_grace_ms=50_000))
        await rig.submit(request("b", timeout_ms=150))
        assert await rig.ledger.reap() == 0
        assert 0.05 < rig.ledger.due_in_s <= 0.151
        await rig.pass_time(0.2)
        assert await rig.ledger.reap() == 1
        await rig.ledger.reap()  # a ledger need not look for the next time in a call that has ended something
        assert 1 < rig.ledger.due_in_s < 61

    async def test_earlier_of_deadline_and_timeout_holds(self, rig: Rig) -> None:
        await rig.submit(request("a", timeout_ms=100, deadline_ms=rig.wall_ms() + 60_000))
        await rig.submit(request("b", timeout_ms=60_000, deadline_ms=rig.wall_ms() + 100))
        await rig.submit(request("c", timeout_ms=60_000, deadline_ms=rig.wall_ms() + 60_000))
        await rig.pass_time(0.15)
        assert await rig.ledger.reap() == 2
        assert (await rig.ledger.info("c")).state == "queued"

    async def test_repeated_submit_does_not_prolong_a_timeout(self, rig: Rig) -> None:
        await rig.submit(request(timeout_ms=150))
        await rig.pass_time(0.1)
        assert await rig.ledger.submit(request(timeout_ms=150)) is SubmitOutcome.DUPLICATE
        await rig.pass_time(0.1)
        assert await rig.ledger.reap() == 1

    async def test_ledger_tells_its_clock(self, rig: Rig) -> None:
        before_ms = rig.wall_ms()
        assert before_ms <= await rig.ledger.now_ms() <= rig.wall_ms()

    async def test_deadline_does_not_change_an_ended_request(self, rig: Rig) -> None:
        claim = await rig.start(request(deadline_ms=rig.wall_ms() + 100))
        await rig.ledger.finish("r", claim.epoch, finished(0))
        await rig.pass_time(0.15)
        assert await rig.ledger.reap() == 0
        assert (await rig.ledger.read("r")).end == finished(0)


class ReaderSuite:
    async def test_unread_request_is_cancelled_after_its_grace(self, rig: Rig) -> None:
        claim = await rig.start(request(resume_grace_ms=200))
        await rig.ledger.reap()
        assert await rig.write(claim, 1, 1) is AppendOutcome.OK
        await rig.pass_time(0.25)
        assert await rig.ledger.reap() == 1
        assert (await rig.ledger.read("r")).end == Finished("cancelled", Usage(0, 1))
        assert (await rig.ledger.beat("w")).stop == (("r", claim.epoch),)

    async def test_request_with_a_reader_is_not_cancelled(self, rig: Rig) -> None:
        await rig.submit(request(resume_grace_ms=200))
        with await rig.ledger.follow("r"):
            await rig.pass_time(0.3)
            assert await rig.ledger.reap() == 0
            with await rig.ledger.follow("r"):
                pass
            await rig.pass_time(0.3)
            assert await rig.ledger.reap() == 0
        assert await rig.ledger.reap() == 0
        await rig.pass_time(0.25)
        assert await rig.ledger.reap() == 1

    async def test_reader_that_returns_in_time_keeps_the_request(self, rig: Rig) -> None:
        await rig.submit(request(resume_grace_ms=300))
        with await rig.ledger.follow("r"):
            pass
        await rig.pass_time(0.15)
        with await rig.ledger.follow("r"):
            await rig.pass_time(0.3)
            await rig.ledger.reap()
        assert (await rig.ledger.info("r")).state == "queued"

    async def test_repeated_submit_counts_as_a_reader(self, rig: Rig) -> None:
        await rig.submit(request(resume_grace_ms=300))
        await rig.pass_time(0.2)
        assert await rig.ledger.submit(request(resume_grace_ms=300)) is SubmitOutcome.DUPLICATE
        await rig.pass_time(0.2)
        assert await rig.ledger.reap() == 0
        assert (await rig.ledger.info("r")).state == "queued"

    @pytest.mark.parametrize("late", [False, True])
    async def test_ended_request_needs_no_reader(self, rig: Rig, late: bool) -> None:
        claim = await rig.start(request(resume_grace_ms=200))
        if late:
            with await rig.ledger.follow("r"):
                await rig.ledger.finish("r", claim.epoch, finished(0))
        else:
            await rig.ledger.finish("r", claim.epoch, finished(0))
        await rig.pass_time(0.3)
        assert await rig.ledger.reap() == 0
        assert (await rig.ledger.read("r")).end == finished(0)
