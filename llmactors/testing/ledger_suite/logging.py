"""Promises about the token log: which epoch may write, what is written once, and how readers see the log."""

# ruff: noqa: D101, S101

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from llmactors import errors
from llmactors.ledger import AppendEntry, AppendOutcome, LogSlice, ReleaseHow
from llmactors.messages import Failed, Finished, TokenDelta, Usage
from llmactors.testing.ledger_suite.rig import Rig, extra_of, finished, request, tokens


class AppendSuite:
    async def test_tokens_are_read_as_written(self, rig: Rig) -> None:
        claim = await rig.start()
        assert await rig.write(claim, 1, 2) is AppendOutcome.OK
        assert await rig.write(claim, 3, 3) is AppendOutcome.OK
        found = await rig.ledger.read("r")
        assert (found.first_seq, tuple(found.deltas), found.end) == (1, tokens(1, 3), None)
        assert (await rig.ledger.info("r")).last_seq == 3

    async def test_tokens_keep_what_they_carry_over_takeovers(self, rig: Rig) -> None:
        """What a token carries is read, followed and claimed as it was written, in mixed and in plain entries."""
        old = await rig.start(worker="w1")
        with await rig.ledger.follow("r") as follower:
            for first, last in ((1, 8), (9, 9), (10, 10), (9, 12)):
                assert await rig.write(old, first, last) is AppendOutcome.OK
            await rig.ledger.leave("w1")
            [new] = await rig.claim("w2")
            assert new.tokens == tokens(1, 12)
            await rig.write(new, 13, 14, finished(14))
            await follower.wait_end()
            assert tuple(follower.take().deltas) == tokens(1, 14)
        found = tuple((await rig.ledger.read("r")).deltas)
        assert [delta.extra for delta in found] == [extra_of(seq) for seq in range(1, 15)]

    async def test_text_that_is_no_unicode_keeps_its_extra(self, rig: Rig) -> None:
        claim = await rig.start()
        halves = (TokenDelta(1, "\ud83d", extra_of(2)), TokenDelta(2, "\ude00"), TokenDelta(3, "é", extra_of(4)))
        with await rig.ledger.follow("r") as follower:
            await rig.ledger.append([AppendEntry("r", claim.epoch, 1, halves)])
            await follower.wait_more()
            assert tuple(follower.take().deltas) == halves
        assert tuple((await rig.ledger.read("r")).deltas) == halves

    async def test_one_append_call_serves_many_requests_in_order(self, rig: Rig) -> None:
        await rig.submit(request("a"), request("b"))
        a, b = await rig.claim(slots=2)
        results = await rig.ledger.append(
            [
                AppendEntry("b", b.epoch, 1, tokens(1, 1)),
                AppendEntry("unknown", 1, 1, tokens(1, 1)),
                AppendEntry("a", a.epoch, 1, tokens(1, 2), finished(2)),
                AppendEntry("b", b.epoch, 2, tokens(2, 2)),
            ],
        )
        ok, gone = AppendOutcome.OK, AppendOutcome.GONE
        assert [result.outcome for result in results] == [ok, gone, ok, ok]
        assert tuple((await rig.ledger.read("b")).deltas) == tokens(1, 2)
        assert (await rig.ledger.info("a")).state == "ended"

    async def test_repeated_append_is_written_once(self, rig: Rig) -> None:
        claim = await rig.start()
        for _ in range(2):
            assert await rig.write(claim, 1, 3) is AppendOutcome.OK
        assert await rig.write(claim, 2, 5) is AppendOutcome.OK
        assert tuple((await rig.ledger.read("r")).deltas) == tokens(1, 5)

    async def test_hole_is_refused_with_the_next_seq(self, rig: Rig) -> None:
        claim = await rig.start()
        await rig.write(claim, 1, 2)
        [result] = await rig.ledger.append([AppendEntry("r", claim.epoch, 4, tokens(4, 5), finished(5))])
        assert (result.outcome, result.next_seq) == (AppendOutcome.GAP, 3)
        found = await rig.ledger.read("r")
        assert (tuple(found.deltas), found.end) == (tokens(1, 2), None)

    async def test_older_epoch_is_fenced(self, rig: Rig) -> None:
        old = await rig.start(worker="w1")
        await rig.ledger.release("r", old.epoch, ReleaseHow.FAILED)
        [new] = await rig.claim("w2")
        assert new.epoch > old.epoch
        assert await rig.write(old, 1, 1) is AppendOutcome.FENCED
        assert (await rig.ledger.finish("r", old.epoch, finished(0))).outcome is AppendOutcome.FENCED
        assert await rig.write(new, 1, 1) is AppendOutcome.OK
        assert (await rig.ledger.info("r")).last_seq == 1

    async def test_older_epoch_is_fenced_after_the_end_too(self, rig: Rig) -> None:
        old = await rig.start(worker="w1")
        await rig.ledger.release("r", old.epoch, ReleaseHow.FAILED)
        [new] = await rig.claim("w2")
        await rig.ledger.finish("r", new.epoch, finished(0))
        assert (await rig.ledger.finish("r", old.epoch, finished(0))).outcome is AppendOutcome.FENCED

    async def test_released_claim_is_fenced_before_the_next_claim(self, rig: Rig) -> None:
        claim = await rig.start()
        await rig.ledger.release("r", claim.epoch, ReleaseHow.SILENT)
        assert await rig.write(claim, 1, 1) is AppendOutcome.FENCED
        assert (await rig.ledger.release("r", claim.epoch, ReleaseHow.SILENT)).outcome is AppendOutcome.FENCED

    async def test_epoch_zero_writes_nothing(self, rig: Rig) -> None:
        await rig.submit(request())
        [result] = await rig.ledger.append([AppendEntry("r", 0, 1, tokens(1, 1))])
        assert result.outcome is AppendOutcome.FENCED
        assert (await rig.ledger.info("r")).last_seq == 0

    async def test_unknown_request_is_gone(self, rig: Rig) -> None:
        assert (await rig.ledger.finish("r", 1, finished(0))).outcome is AppendOutcome.GONE
        assert (await rig.ledger.release("r", 1, ReleaseHow.FAILED)).outcome is AppendOutcome.GONE


class EndSuite:
    async def test_end_comes_after_the_last_token(self, rig: Rig) -> None:
        claim = await rig.start()
        assert await rig.write(claim, 1, 2, finished(2)) is AppendOutcome.OK
        found = await rig.ledger.read("r")
        assert (tuple(found.deltas), found.end, found.end_seq) == (tokens(1, 2), finished(2), 3)
        info = await rig.ledger.info("r")
        assert (info.state, info.last_seq) == ("ended", 3)

    async def test_finish_needs_no_seq(self, rig: Rig) -> None:
        claim = await rig.start()
        await rig.write(claim, 1, 2)
        assert (await rig.ledger.finish("r", claim.epoch, finished(2))).outcome is AppendOutcome.OK
        assert (await rig.ledger.read("r", 2)).end_seq == 3

    async def test_end_says_what_came_from_a_cache(self, rig: Rig) -> None:
        claim = await rig.start()
        end = Finished("stop", Usage(90, 1, 80))
        for _ in range(2):
            assert await rig.write(claim, 1, 1, end) is AppendOutcome.OK
        assert (await rig.ledger.read("r")).end == end

    async def test_repeated_end_is_written_once(self, rig: Rig) -> None:
        claim = await rig.start()
        for _ in range(2):
            assert await rig.write(claim, 1, 2, finished(2)) is AppendOutcome.OK
        assert (await rig.ledger.finish("r", claim.epoch, finished(2))).outcome is AppendOutcome.OK
        assert (await rig.ledger.info("r")).last_seq == 3
        assert (await rig.ledger.statistics()).ended_total == 1

    async def test_nothing_is_written_after_the_end(self, rig: Rig) -> None:
        claim = await rig.start()
        await rig.write(claim, 1, 2, finished(2))
        assert await rig.write(claim, 3, 3) is AppendOutcome.STOP
        assert await rig.write(claim, 3, 3, finished(2)) is AppendOutcome.STOP
        assert (await rig.ledger.finish("r", claim.epoch, Failed("INTERRUPTED", ""))).outcome is AppendOutcome.STOP
        assert (await rig.ledger.release("r", claim.epoch, ReleaseHow.FAILED)).outcome is AppendOutcome.STOP
        assert not await rig.ledger.cancel("r")
        found = await rig.ledger.read("r")
        assert (tuple(found.deltas), found.end) == (tokens(1, 2), finished(2))

    async def test_ended_request_is_kept_then_expired_then_unknown(self, rig: Rig) -> None:
        claim = await rig.start()
        await rig.write(claim, 1, 2, finished(2))
        await rig.pass_time(rig.settings.retention_s / 2)
        await rig.ledger.reap()
        assert (await rig.ledger.read("r")).end == finished(2)
        await rig.pass_time(rig.settings.retention_s / 2 + 0.01)
        await rig.ledger.reap()
        for ask in (rig.ledger.info, rig.ledger.read, rig.ledger.follow, rig.ledger.cancel):
            with pytest.raises(errors.Expired):
                await ask("r")
        assert await rig.write(claim, 3, 3) is AppendOutcome.GONE
        await rig.pass_time(rig.settings.tombstone_s + 0.01)
        await rig.ledger.reap()
        with pytest.raises(errors.NotFound):
            await rig.ledger.info("r")
        assert (await rig.ledger.statistics()).log_tokens == 0

    async def test_request_may_be_kept_for_a_time_of_its_own(self, rig: Rig) -> None:
        kept_s = rig.settings.retention_s
        for each in (
            request("long", retention_ms=round(kept_s * 3000)),
            request("short", retention_ms=10),
            request("r"),
        ):
            await rig.write(await rig.start(each), 1, 2, finished(2))
        for passed_s, kept in ((0.02, {"long", "r"}), (kept_s, {"long"}), (kept_s * 2, set[str]())):
            await rig.pass_time(passed_s)
            await rig.ledger.reap()
            assert (await rig.ledger.statistics()).ended == len(kept)
            for name in ("long", "short", "r"):
                if name in kept:
                    assert (await rig.ledger.read(name)).end == finished(2)
                else:
                    with pytest.raises((errors.Expired, errors.NotFound)):
                        await rig.ledger.read(name)

    async def test_open_follower_keeps_an_ended_log(self, rig: Rig) -> None:
        """Its retention begins again when the follower closes."""
        claim, kept_s = await rig.start(), rig.settings.retention_s
        with await rig.ledger.follow("r") as follower:
            await rig.write(claim, 1, 2, finished(2))
            for _ in range(3):
                await rig.pass_time(0.6 * kept_s)
                await rig.ledger.reap()
                assert (await rig.ledger.read("r")).end == finished(2)
            assert follower.take().end == finished(2)
        await rig.pass_time(0.3 * kept_s)
        await rig.ledger.reap()
        with await rig.ledger.follow("r", 1) as again:
            assert tuple(again.take().deltas) == tokens(2, 2)
        await rig.pass_time(kept_s + 0.01)
        await rig.ledger.reap()
        with pytest.raises(errors.Expired):
            await rig.ledger.read("r")

    async def test_follower_that_comes_late_keeps_an_ended_log(self, rig: Rig) -> None:
        claim, kept_s = await rig.start(), rig.settings.retention_s
        await rig.write(claim, 1, 2, finished(2))
        await rig.pass_time(0.9 * kept_s)
        with await rig.ledger.follow("r"):
            await rig.pass_time(0.6 * kept_s)
            await rig.ledger.reap()
            assert (await rig.ledger.read("r")).end == finished(2)

    async def test_no_follower_keeps_an_ended_log_for_ever(self, rig: Rig) -> None:
        claim = await rig.start()
        with await rig.ledger.follow("r"):
            await rig.write(claim, 1, 2, finished(2))
            left_s = rig.settings.longest_read_s + rig.settings.retention_s
            while left_s > 0.1:
                await rig.ledger.read("r")
                passed_s = min(0.6 * rig.settings.retention_s, left_s)
                await rig.pass_time(passed_s)
                await rig.ledger.reap()
                left_s -= passed_s
            await rig.pass_time(0.11)
            await rig.ledger.reap()
            with pytest.raises(errors.Expired):
                await rig.ledger.read("r")


class ReadSuite:
    async def test_request_never_submitted_is_not_found(self, rig: Rig) -> None:
        for ask in (rig.ledger.info, rig.ledger.read, rig.ledger.follow, rig.ledger.cancel):
            with pytest.raises(errors.NotFound):
                await ask("r")

    async def test_read_begins_after_the_given_seq(self, rig: Rig) -> None:
        claim = await rig.start()
        await rig.write(claim, 1, 5)
        found = await rig.ledger.read("r", 3)
        assert (found.first_seq, tuple(found.deltas)) == (4, tokens(4, 5))
        assert not (await rig.ledger.read("r", 5)).deltas

    @pytest.mark.parametrize("after", [0, 1, 2, 3, 9])
    async def test_every_reader_of_an_ended_log_gets_the_end(self, rig: Rig, after: int) -> None:
        claim = await rig.start()
        await rig.write(claim, 1, 2, finished(2))
        with await rig.ledger.follow("r", after) as follower:
            for found in (await rig.ledger.read("r", after), follower.take()):
                assert tuple(found.deltas) == tokens(after + 1, 2)
                assert (found.end, found.end_seq) == (finished(2), 3)
            assert follower.cursor == 3

    async def test_follower_gets_each_entry_once(self, rig: Rig) -> None:
        claim = await rig.start()
        with await rig.ledger.follow("r") as follower:
            assert not follower.take().deltas
            await rig.write(claim, 1, 2)
            await follower.wait_more()
            assert tuple(follower.take().deltas) == tokens(1, 2)
            assert not follower.take().deltas
            await rig.write(claim, 3, 3, finished(3))
            await follower.wait_more()
            last = follower.take()
            assert (last.first_seq, tuple(last.deltas), last.end) == (3, tokens(3, 3), finished(3))
            assert follower.cursor == 4
            assert follower.take() == LogSlice(5, ())
            await follower.wait_more()
            await follower.wait_end()

    async def test_waiting_follower_gets_tokens_as_they_come(self, rig: Rig) -> None:
        claim = await rig.start()
        send, receive = trio.open_memory_channel[int](0)

        async def read(follow_from: int) -> None:
            with await rig.ledger.follow("r", follow_from) as follower:
                while True:
                    await follower.wait_more()
                    taken = follower.take()
                    for delta in taken.deltas:
                        await send.send(delta.token)
                    if taken.end is not None:
                        return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, 0)
            nursery.start_soon(read, 3)
            for seq in range(1, 6):
                await wait_all_tasks_blocked(0.001)
                await rig.write(claim, seq, seq)
                # Each reader whose cursor is behind this token gets the token before the next one is written.
                for _ in range(1 if seq <= 3 else 2):
                    with trio.fail_after(rig.settings.lease_s):
                        assert await receive.receive() == tokens(seq, seq)[0].token
            await rig.ledger.finish("r", claim.epoch, finished(5))

    async def test_wait_end_returns_at_the_end_and_not_at_tokens(self, rig: Rig) -> None:
        claim = await rig.start()
        ended = trio.Event()

        async def wait() -> None:
            with await rig.ledger.follow("r") as follower:
                await follower.wait_end()
                assert follower.take().end == finished(2)
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            for seq in (1, 2):
                await wait_all_tasks_blocked(0.001)
                await rig.write(claim, seq, seq)
            await wait_all_tasks_blocked(0.001)
            assert not ended.is_set()
            await rig.ledger.finish("r", claim.epoch, finished(2))

    async def test_follower_sees_a_takeover_as_one_stream(self, rig: Rig) -> None:
        old = await rig.start(worker="w1")
        with await rig.ledger.follow("r") as follower:
            await rig.write(old, 1, 2)
            await rig.ledger.leave("w1")
            [new] = await rig.claim("w2")
            assert new.tokens == tokens(1, 2)
            await rig.write(old, 3, 4)
            await rig.write(new, 3, 3, finished(3))
            await follower.wait_end()
            taken = follower.take()
            assert (tuple(taken.deltas), taken.end) == (tokens(1, 3), finished(3))
