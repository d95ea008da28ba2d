"""Promises about silent workers: what counts as a death, and who is charged for it."""

# ruff: noqa: S101

from llmactors.ledger import AppendOutcome, ReleaseHow
from llmactors.testing.ledger_suite.rig import Rig, code_of, finished, request


class SilenceSuite:
    """A worker that falls silent may be stopped, cut off or dead. Only a death that was seen convicts a request."""

    async def test_stop_of_all_workers_costs_no_attempt(self, rig: Rig) -> None:
        await rig.submit(request())
        for each in range(5):
            [claim] = await rig.claim(f"w#{each}")
            assert (claim.attempt, claim.quarantined) == (1, False)
            await rig.pass_time(rig.settings.lease_s + 0.01)
            assert await rig.ledger.reap() == 1
            assert not (await rig.ledger.beat(f"w#{each}")).live
        assert (await rig.ledger.statistics()).requeued_total == 5

    async def test_stop_of_one_worker_costs_no_attempt_in_the_end(self, rig: Rig) -> None:
        await rig.submit(request())
        for each in range(5):
            [claim] = await rig.claim(f"w#{each}")
            assert (claim.attempt, claim.quarantined) == (1, False)
            await rig.fall_silent()
            await rig.ledger.reap()
            assert (await rig.ledger.info("r")).attempt == 1
            assert not (await rig.ledger.beat(f"w#{each}")).live
            assert (await rig.ledger.info("r")).attempt == 0

    async def test_attempt_is_taken_back_while_request_runs(self, rig: Rig) -> None:
        await rig.start(worker="w#1")
        await rig.fall_silent()
        await rig.ledger.reap()
        [claim] = await rig.claim("v#1")
        assert claim.attempt == 2
        for _ in range(2):
            assert not (await rig.ledger.beat("w#1")).live
            assert (await rig.ledger.info("r")).attempt == 1
        await rig.ledger.release("r", claim.epoch, ReleaseHow.SILENT)
        assert (await rig.ledger.info("r")).attempt == 0

    async def test_silence_alone_does_not_convict(self, rig: Rig) -> None:
        await rig.submit(request())
        await rig.crash(times=2)
        [claim] = await rig.claim("w#1")
        assert (claim.attempt, claim.quarantined) == (3, True)
        await rig.fall_silent()
        await rig.ledger.reap()
        [claim] = await rig.claim("v#1")
        assert await rig.write(claim, 1, 1, finished(1)) is AppendOutcome.OK

    async def test_crash_after_two_silences_convicts_nobody(self, rig: Rig) -> None:
        await rig.submit(request())
        for worker in ("u#1", "v#1"):
            await rig.claim(worker)
            await rig.fall_silent()
            await rig.ledger.reap()
        [claim] = await rig.claim("w#1")
        assert (claim.attempt, claim.quarantined) == (3, True)
        await rig.ledger.release("r", claim.epoch, ReleaseHow.FAILED, "segmentation fault")
        assert (await rig.ledger.info("r")).state == "queued"

    async def test_return_as_new_incarnation_proves_the_death(self, rig: Rig) -> None:
        await rig.submit(request())
        await rig.crash(times=2)
        await rig.claim("w#1")
        await rig.fall_silent()
        await rig.ledger.reap()
        [elsewhere] = await rig.claim("v#1")
        assert (await rig.ledger.beat("w#2")).live
        assert code_of((await rig.ledger.read("r")).end) == "POISONED"
        assert await rig.write(elsewhere, 1, 1) is AppendOutcome.STOP
        [letter] = await rig.ledger.dead_letters()
        assert letter.request.id == "r"

    async def test_new_incarnation_takes_over_at_once(self, rig: Rig) -> None:
        old = await rig.start(worker="w#1")
        assert (await rig.ledger.beat("w#2")).live
        assert not (await rig.ledger.beat("w#1")).live
        [new] = await rig.claim("w#2")
        assert new.attempt == 2
        assert await rig.write(old, 1, 1) is AppendOutcome.FENCED

    async def test_other_workers_are_no_incarnations_of_it(self, rig: Rig) -> None:
        await rig.start(worker="w#1")
        for other in ("v#2", "w", "x#w#2", "ww#1"):
            await rig.ledger.beat(other)
        assert (await rig.ledger.beat("w#1")).live

    async def test_three_silent_workers_convict(self, rig: Rig) -> None:
        await rig.submit(request())
        for worker in ("t#1", "u#1", "v#1", "w#1", "x#1"):
            if (await rig.ledger.info("r")).state == "queued":
                await rig.claim(worker)
                await rig.fall_silent()
                await rig.ledger.reap()
        assert code_of((await rig.ledger.read("r")).end) == "POISONED"
        assert [letter.attempt for letter in await rig.ledger.dead_letters()] == [3]
