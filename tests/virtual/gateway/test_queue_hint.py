"""A gateway refuses requests for a full queue without the ledger only if the ledger would refuse them too."""

import contextlib
from collections.abc import AsyncIterator, Sequence

import attrs
import pytest
import trio
from trio.testing import MockClock

from llmactors.access.authentication import Caller
from llmactors.backends.base import Batching, Capabilities, Takeover
from llmactors.backends.directory import ModelDirectory, ModelState, ModelStatus
from llmactors.errors import Overloaded, Unavailable
from llmactors.gateway.limit_check import LimitCheck
from llmactors.gateway.native.schema import GenerateBody
from llmactors.gateway.queue_hint import LOOK_EVERY_S, TRUSTED_S, WATCH_S, QueueHint
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.settings import GatewaySettings
from llmactors.ledger import AdmitResult, Candidate, LedgerSettings, LedgerStatistics, MemoryLedger
from llmactors.telemetry import Metrics

MOST, MOST_BYTES = 4, 100
TRIP_S = 0.02


class FarQueue:
    """A queue in a ledger `trip_s` away: `look` answers after a trip with the state at the time of the question."""

    def __init__(self, queued: int = MOST, queued_bytes: int = 0) -> None:
        self.queued, self.queued_bytes = queued, queued_bytes
        self.trip_s = TRIP_S
        self.looks = 0
        self.is_up = True

    async def look(self) -> LedgerStatistics:
        self.looks += 1
        empty = LedgerStatistics(**dict.fromkeys((field.name for field in attrs.fields(LedgerStatistics)), 0))
        seen = attrs.evolve(empty, queued=self.queued, queued_bytes=self.queued_bytes)
        await trio.sleep(self.trip_s)
        if not self.is_up:
            raise Unavailable("the ledger is away")
        return seen


@contextlib.asynccontextmanager
async def hint_of(queue: FarQueue) -> AsyncIterator[QueueHint]:
    """A queue hint whose ledger has just refused a request, and that has looked at the queue once since."""
    hint = QueueHint(MOST, MOST_BYTES, queue.look)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hint.run)
        hint.refused()
        await trio.sleep(TRIP_S + LOOK_EVERY_S / 2)
        yield hint
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_ledger_decides_alone_until_its_first_refusal(autojump_clock: MockClock) -> None:
    queue = FarQueue()
    async with trio.open_nursery() as nursery:
        hint = QueueHint(MOST, MOST_BYTES, queue.look)
        nursery.start_soon(hint.run)
        for _ in range(100):
            assert not hint.lacks([1])
            hint.send([1])
            await trio.sleep(0.01)
        assert queue.looks == 0
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_full_queue_refuses_until_a_look_finds_room(autojump_clock: MockClock) -> None:
    queue = FarQueue()
    async with hint_of(queue) as hint:
        assert hint.lacks([1])
        queue.queued -= 1
        await trio.sleep(LOOK_EVERY_S + 2 * TRIP_S)
        assert not hint.lacks([1])
        assert hint.lacks([1, 1])


async def test_requests_sent_during_a_look_count(autojump_clock: MockClock) -> None:
    queue = FarQueue(queued=MOST - 2)
    async with hint_of(queue) as hint:
        hint.send([1])
        assert not hint.lacks([1])
        hint.send([1])
        assert hint.lacks([1])
        await trio.sleep(LOOK_EVERY_S)  # a look is under way that does not see the next request
        queue.queued = MOST - 1
        hint.send([1])
        await trio.sleep(TRIP_S)
        assert hint.lacks([1, 1])


async def test_bytes_count_as_room(autojump_clock: MockClock) -> None:
    async with hint_of(FarQueue(queued=1, queued_bytes=MOST_BYTES - 10)) as hint:
        assert not hint.lacks([10])
        assert hint.lacks([11])
        hint.send([5])
        assert hint.lacks([6])


async def test_outdated_look_refuses_nobody(autojump_clock: MockClock) -> None:
    """The ledger is asked instead, however slow it is."""
    queue = FarQueue()
    async with hint_of(queue) as hint:
        queue.trip_s = 1000.0
        await trio.sleep(LOOK_EVERY_S)
        assert hint.lacks([1])
        await trio.sleep(TRUSTED_S)
        assert not hint.lacks([1])


async def test_age_of_a_look_counts_from_its_start(autojump_clock: MockClock) -> None:
    queue = FarQueue()
    async with hint_of(queue) as hint:
        queue.trip_s = 0.9 * TRUSTED_S
        await trio.sleep(LOOK_EVERY_S + queue.trip_s)
        assert hint.lacks([1])
        queue.trip_s = 1000.0
        await trio.sleep(0.2 * TRUSTED_S)
        assert not hint.lacks([1])


async def test_absent_ledger_refuses_nobody_and_is_looked_at_again(autojump_clock: MockClock) -> None:
    queue = FarQueue()
    async with hint_of(queue) as hint:
        queue.is_up = False
        await trio.sleep(TRUSTED_S + 2 * TRIP_S)
        assert not hint.lacks([1])
        queue.is_up = True
        await trio.sleep(LOOK_EVERY_S + 2 * TRIP_S)
        assert hint.lacks([1])


async def test_looks_run_only_for_a_while_after_a_refusal(autojump_clock: MockClock) -> None:
    queue = FarQueue()
    async with hint_of(queue) as hint:
        await trio.sleep(0.9 * WATCH_S)
        assert hint.lacks([1])
        await trio.sleep(0.9 * WATCH_S)
        assert hint.lacks([1])  # the looks went on because of the refusal before
        await trio.sleep(WATCH_S + 2 * TRIP_S)
        looks = queue.looks
        await trio.sleep(10 * WATCH_S)
        assert queue.looks == looks
        hint.refused()
        await trio.sleep(TRIP_S + LOOK_EVERY_S / 2)
        assert hint.lacks([1])


class CountedLedger(MemoryLedger):
    asked = 0

    async def admit(self, candidates: Sequence[Candidate]) -> AdmitResult:
        self.asked += 1
        await trio.sleep(TRIP_S)
        return await super().admit(candidates)


@contextlib.asynccontextmanager
async def service_of(max_queued: int) -> AsyncIterator[tuple[RequestService, CountedLedger]]:
    ledger = CountedLedger(LedgerSettings(max_queued=max_queued))
    directory = ModelDirectory(("m",))
    capabilities = Capabilities(1, 100, Takeover.EXACT, Batching.CONTINUOUS)
    directory.put("m", ModelStatus(ModelState.READY, capabilities))
    hint = QueueHint(max_queued, ledger.settings.max_queued_bytes, ledger.statistics)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hint.run)
        yield (
            RequestService(
                GatewaySettings(),
                ledger=ledger,
                directory=directory,
                metrics=Metrics(),
                limit_check=LimitCheck(),
                queue_hint=hint,
            ),
            ledger,
        )
        nursery.cancel_scope.cancel(reason="the test is over")


CALLER, BODY = Caller("tenant", "tenant"), GenerateBody(prompt="p")


async def test_refusal_asks_no_ledger_but_finds_a_repeated_request(
    autojump_clock: MockClock,
) -> None:
    async with service_of(1) as (service, ledger):
        first = await service.admit(CALLER, BODY, "key")
        for _ in range(5):
            with pytest.raises(Overloaded) as refused:
                await service.admit(CALLER, BODY)
            assert refused.value.retry_after_s == 1.0
            assert ledger.asked == 2
            await trio.sleep(LOOK_EVERY_S / 2)
        assert (await service.admit(CALLER, BODY, "key")).request == first.request

        await ledger.cancel(first.request.id)
        await trio.sleep(LOOK_EVERY_S)
        await service.admit(CALLER, BODY)


async def test_burst_sends_only_as_many_as_there_is_room_for(autojump_clock: MockClock) -> None:
    async with service_of(2) as (service, ledger):
        first, _ = await service.admit_all(CALLER, [BODY, BODY])
        with pytest.raises(Overloaded):
            await service.admit(CALLER, BODY)
        await ledger.cancel(first.request.id)
        await trio.sleep(LOOK_EVERY_S * 1.5)
        ledger.asked = 0
        outcomes: list[str] = []

        async def ask() -> None:
            try:
                await service.admit(CALLER, BODY)
                outcomes.append("accepted")
            except Overloaded:
                outcomes.append("refused")

        async with trio.open_nursery() as asking:
            for _ in range(10):
                asking.start_soon(ask)
        assert (outcomes.count("accepted"), len(outcomes), ledger.asked) == (1, 10, 1)
