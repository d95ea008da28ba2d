"""Promises about usage: one record for each ended request, and sums that stay exact when records are evicted."""

# ruff: noqa: D101, S101

from typing import Any

import pytest

from llmactors import errors
from llmactors.ledger import ReleaseHow, SubmitOutcome, UsageBy, UsageRecord, UsageReport, UsageTotal
from llmactors.ledger.usage import OTHERS
from llmactors.messages import Failed, Finished, Usage
from llmactors.prices import Price
from llmactors.testing.ledger_suite.rig import Rig, finished, request

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


async def records_of(rig: Rig) -> list[UsageRecord]:
    """All records that the ledger has."""
    return list((await rig.ledger.usage_records(0, rig.wall_ms() + 1)).records)


async def report_of(rig: Rig, by: UsageBy = UsageBy.MODEL) -> UsageReport:
    """The sums of all time."""
    return await rig.ledger.usage_report(0, rig.wall_ms() + 1, by)


async def use(rig: Rig, request_id: str, used: int = 2, **fields: Any) -> None:
    """Runs one request to its end, with a prompt of 3 tokens and an answer of `used` tokens."""
    claim = await rig.start(request(request_id, **fields))
    await rig.write(claim, 1, used, finished(used))


class UsageSuite:
    async def test_record_tells_what_a_request_has_used(self, rig: Rig) -> None:
        price = Price.per_million(2.0, 10.0, 0.5)
        await rig.submit(request(tenant="t", priority=2, key_id="k1", price=price))
        await rig.pass_time(0.1)
        [claim] = await rig.claim("a#1")
        await rig.write(claim, 1, 2)
        await rig.pass_time(0.2)
        await rig.ledger.leave("a#1")
        await rig.pass_time(0.05)
        [claim] = await rig.claim("b#1")
        await rig.pass_time(0.1)
        await rig.write(claim, 3, 5, Finished("stop", Usage(9, 5, 4)))
        [record] = await records_of(rig)
        assert (record.request_id, record.tenant, record.key_id, record.model) == ("r", "t", "k1", "m")
        assert (record.priority, record.code, record.attempts) == (2, "stop", 2)
        assert (record.prompt_tokens, record.completion_tokens, record.cached_tokens) == (9, 5, 4)
        assert record.cost_nano == 5 * 2000 + 4 * 500 + 5 * 10_000
        assert record.queue_ms == pytest.approx(150, abs=20)
        assert record.run_ms == pytest.approx(300, abs=20)
        assert abs(record.ended_ms - rig.wall_ms()) < 1000

    @pytest.mark.parametrize(
        "end", [finished(3), Failed("INTERRUPTED", "gone", Usage(4, 3, 2)), Failed("INTERNAL", "?")]
    )
    async def test_repeated_end_is_recorded_once(self, rig: Rig, end: Finished | Failed) -> None:
        claim = await rig.start()
        for _ in range(3):  # as after lost replies
            await rig.write(claim, 1, 3, end)
            await rig.ledger.finish("r", claim.epoch, end)
        await rig.ledger.release("r", claim.epoch, ReleaseHow.FATAL, "too late")
        await rig.ledger.cancel("r")
        await rig.ledger.leave("w")
        [record] = await records_of(rig)
        usage = end.usage or Usage(1, 3)
        assert (record.prompt_tokens, record.cached_tokens) == (usage.prompt_tokens, usage.cached_tokens)
        assert (await report_of(rig)).total.requests == 1

    async def test_forgotten_request_keeps_its_record(self, rig: Rig) -> None:
        await use(rig, "a")
        await rig.submit(request("b"))
        for each in ("a", "b"):
            await rig.ledger.forget(each)
        assert [each.code for each in await records_of(rig)] == ["stop", "cancelled"]

    async def test_requeued_dead_letter_has_its_own_record(self, rig: Rig) -> None:
        claim = await rig.start(request("old", tenant="t", key_id="k1"))
        await rig.ledger.release("old", claim.epoch, ReleaseHow.FATAL, "it cannot be")
        assert await rig.ledger.requeue("old", "new") is SubmitOutcome.ACCEPTED
        [claim] = await rig.claim()
        await rig.write(claim, 1, 2, finished(2))
        found = [(each.request_id, each.key_id, each.code) for each in await records_of(rig)]
        assert found == [("old", "k1", "BACKEND_FAILED"), ("new", "k1", "stop")]

    async def test_records_come_in_pages(self, rig: Rig) -> None:
        for number in range(7):
            await use(rig, f"r{number}")
            await rig.pass_time(0.01)
        all_of_them = await records_of(rig)
        since_ms, until_ms = all_of_them[1].ended_ms, all_of_them[6].ended_ms
        found, after = [], ""
        while True:
            page = await rig.ledger.usage_records(since_ms, until_ms, after, 2)
            found += [each.request_id for each in page.records]
            if not (after := page.next):
                break
        assert found == ["r1", "r2", "r3", "r4", "r5"]
        with pytest.raises(errors.InvalidRequest, match="`after` must be"):
            await rig.ledger.usage_records(0, 1, "no cursor")

    async def test_sums_stay_exact_without_their_records(self, rig: Rig) -> None:
        most = rig.settings.usage_records_max
        for number in range(most + 3):
            await use(rig, f"r{number}")
        assert [each.request_id for each in await records_of(rig)] == [f"r{number}" for number in range(3, most + 3)]
        total = (await report_of(rig)).total
        assert (total.requests, total.prompt_tokens, total.completion_tokens) == (most + 3, 3 * most + 9, 2 * most + 6)
        await rig.pass_time(rig.settings.usage_records_s + 1)
        await rig.ledger.reap()
        assert await records_of(rig) == []
        assert (await report_of(rig)).total == total

    async def test_sums_are_made_by_what_is_asked_for(self, rig: Rig) -> None:
        await use(rig, "a", 5, tenant="t", key_id="k1")
        await use(rig, "b", 1, tenant="t", key_id="k2")
        await rig.pass_time(3600)
        claim = await rig.start(request("c", tenant="u"), worker="v")
        await rig.write(claim, 1, 1, Failed("INTERNAL", "?"))

        async def rows(by: UsageBy) -> list[tuple[str, str, str, int | None, int, int]]:
            sums = (await report_of(rig, by)).sums
            return [
                (each.tenant, each.key_id, each.model, each.start_ms, each.counts.requests, each.counts.failed)
                for each in sums
            ]

        assert await rows(UsageBy.TENANT) == [("t", "", "", None, 2, 0), ("u", "", "", None, 1, 1)]
        assert [row[:2] for row in await rows(UsageBy.KEY)] == [("t", "k1"), ("t", "k2"), ("u", "")]
        assert await rows(UsageBy.MODEL) == [("", "", "m", None, 3, 1)]
        now_ms = rig.wall_ms()
        hours = [now_ms - now_ms % HOUR_MS - HOUR_MS, now_ms - now_ms % HOUR_MS]
        assert [(row[3], row[4]) for row in await rows(UsageBy.HOUR)] == [(hours[0], 2), (hours[1], 1)]
        days = await rows(UsageBy.DAY)
        assert {row[3] for row in days} <= {hour - hour % DAY_MS for hour in hours}
        assert sum(row[4] for row in days) == 3

    async def test_too_many_sums_are_added_up_as_others(self, rig: Rig) -> None:
        most = rig.settings.usage_sums_max
        for number in range(most + 2):
            await use(rig, f"r{number}", tenant=f"t{number}")
        await use(rig, "again", tenant="t0")
        sums = {each.tenant: each.counts.requests for each in (await report_of(rig, UsageBy.TENANT)).sums}
        assert sums == {"t0": 2, OTHERS: 2} | {f"t{number}": 1 for number in range(1, most)}

    async def test_time_is_widened_to_hours_and_days(self, rig: Rig) -> None:
        await use(rig, "a")
        at_ms = (await records_of(rig))[0].ended_ms
        hour_ms, day_ms = at_ms - at_ms % HOUR_MS, at_ms - at_ms % DAY_MS
        report = await rig.ledger.usage_report(at_ms, at_ms + 1, UsageBy.TENANT)
        assert (report.since_ms, report.until_ms, report.total.requests) == (hour_ms, hour_ms + HOUR_MS, 1)
        before = await rig.ledger.usage_report(0, hour_ms, UsageBy.TENANT)
        assert before.total == UsageTotal()
        await rig.pass_time(rig.settings.usage_hours_s + 7200)
        report = await rig.ledger.usage_report(at_ms, at_ms + 1, UsageBy.TENANT)
        assert (report.since_ms, report.until_ms, report.total.requests) == (day_ms, day_ms + DAY_MS, 1)
        assert not (await rig.ledger.usage_report(at_ms, at_ms + 1, UsageBy.HOUR)).sums
        await rig.pass_time(rig.settings.usage_days_s + 86_400)
        assert not (await report_of(rig)).sums
