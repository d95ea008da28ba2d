"""What the ledger remembers of the claims of a request, for operators and for the log of a takeover."""

# ruff: noqa: D101, S101

from llmactors.ledger import ClaimEnd, ReleaseHow
from llmactors.ledger.values import CLAIM_DETAIL_CHARS, CLAIMS_KEPT
from llmactors.testing.ledger_suite.rig import Rig, request


class ClaimNoteSuite:
    async def test_first_claim_has_no_earlier_one(self, rig: Rig) -> None:
        claim = await rig.start(worker="w#1")
        assert claim.earlier == ()
        [note] = (await rig.ledger.info("r")).claims
        assert (note.epoch, note.worker, note.ended) == (claim.epoch, "w#1", None)
        assert abs(note.at_ms - rig.wall_ms()) < 1000

    async def test_takeover_tells_worker_and_cause(self, rig: Rig) -> None:
        first = await rig.start(worker="w#1")
        await rig.write(first, 1, 2)
        await rig.ledger.release("r", first.epoch, ReleaseHow.FAILED, "it broke\tin two\nlines" + "x" * 300)
        [second] = await rig.claim("v#1")
        [note] = second.earlier
        assert (note.epoch, note.worker, note.ended) == (first.epoch, "w#1", ClaimEnd.CRASHED)
        assert note.detail.startswith("it broke")
        assert len(note.detail) == CLAIM_DETAIL_CHARS
        assert len(second.tokens) == 2
        assert [each.worker for each in (await rig.ledger.info("r")).claims] == ["w#1", "v#1"]

    async def test_each_end_of_a_claim_has_its_name(self, rig: Rig) -> None:
        await rig.submit(request())
        [claim] = await rig.claim("a#1")
        await rig.ledger.release("r", claim.epoch, ReleaseHow.SILENT, "the worker drains")
        await rig.claim("b#1")
        await rig.ledger.leave("b#1")
        await rig.claim("c#1")
        await rig.fall_silent()
        await rig.ledger.reap()
        await rig.claim("d#1")
        await rig.ledger.beat("d#2")
        ends = [each.ended for each in (await rig.ledger.info("r")).claims]
        assert ends == [ClaimEnd.HANDED_BACK, ClaimEnd.LEFT, ClaimEnd.SILENT, ClaimEnd.REPLACED]

    async def test_only_the_newest_claims_are_remembered(self, rig: Rig) -> None:
        await rig.submit(request())
        for each in range(CLAIMS_KEPT + 3):
            [claim] = await rig.claim(f"w{each}#1")
            await rig.ledger.release("r", claim.epoch, ReleaseHow.SILENT)
        claims = (await rig.ledger.info("r")).claims
        assert [each.worker for each in claims] == [f"w{each}#1" for each in range(3, CLAIMS_KEPT + 3)]
