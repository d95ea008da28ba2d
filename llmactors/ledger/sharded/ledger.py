"""A `Ledger` over several ledgers, its shards. Each request lives on one of them, and a shard knows nothing of others.

Operations on one request go to its shard. What operators ask for is asked of all shards and put together. An operation
that needs a shard which is away raises `errors.Unavailable`; sums of what is there now leave such a shard out, and sums
of what was used do not.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from llmactors.errors import Expired, NotFound, Unavailable
from llmactors.ledger.contract import Follower
from llmactors.ledger.inspection import QueueShare, RequestFilter, RequestTimes, RequestViews
from llmactors.ledger.settings import LedgerSettings
from llmactors.ledger.sharded import merging
from llmactors.ledger.sharded.placement import Placement
from llmactors.ledger.sharded.shard import PATIENCE_S, Shard, ShardLedger
from llmactors.ledger.sharded.workers import ShardedWorkers
from llmactors.ledger.usage import RECORDS_MAX, UsageBy, UsagePage, UsageReport
from llmactors.ledger.values import (
    AdmitResult,
    AppendEntry,
    AppendResult,
    BeatResult,
    Candidate,
    Claim,
    DeadRequest,
    LedgerStatistics,
    LogSlice,
    ModelDemand,
    News,
    Preemption,
    QueueDepth,
    QueuePlace,
    ReleaseHow,
    RequestInfo,
    SlotOffer,
    SubmitOutcome,
    no_such_dead_letter,
)
from llmactors.limiter.charges import Charge, Standing, add_up
from llmactors.messages import GenerateRequest, Terminal

T = TypeVar("T")


class ShardedLedger:
    """The ledger over `shards`, whose order all nodes must agree on. Run `run` as a task, and the shards themselves.

    `settings` are those of the whole ledger. `place` makes the placement of so many shards. A shard that does not
    answer for `patience_s` counts as away.
    """

    def __init__(
        self,
        shards: Sequence[ShardLedger],
        settings: LedgerSettings,
        place: Callable[..., Placement] = Placement,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.settings = settings
        self.shards = tuple(Shard(number, ledger, patience_s) for number, ledger in enumerate(shards))
        self.placement = place(len(self.shards), lambda number: self.shards[number].answers)
        """By this the ids of requests must be chosen, of a call with several requests in any case."""
        self._workers = ShardedWorkers(self.shards, self.placement)

    def __repr__(self) -> str:
        away = [shard.number for shard in self.shards if not shard.answers]
        return f"<ShardedLedger of {len(self.shards)} shards, away: {away or 'none'}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            for shard in self.shards:
                nursery.start_soon(shard.run)
            self._workers.begin(nursery)
            task_status.started()

    # For gateways.

    async def submit(self, request: GenerateRequest) -> SubmitOutcome:
        return (await self.admit([Candidate(request)])).outcome

    async def admit(self, candidates: Sequence[Candidate]) -> AdmitResult:
        """As `Ledger.admit`. Raises `ValueError` for requests that live on several shards."""
        numbers = {self.placement.shard_of(candidate.request.id) for candidate in candidates}
        if len(numbers) != 1:
            raise ValueError("the requests of one call must live on one shard: choose their ids with `Placement.place`")
        return await self.shards[numbers.pop()].ledger.admit(candidates)

    async def now_ms(self) -> int:
        return await self._first(lambda ledger: ledger.now_ms())

    async def expected_wait_s(self, request: GenerateRequest) -> float:
        return await self._home(request.id).expected_wait_s(request)

    async def places(self, request_ids: Sequence[str]) -> list[QueuePlace | None]:
        groups: dict[int, list[str]] = {}
        for each in request_ids:
            groups.setdefault(self.placement.shard_of(each), []).append(each)
        found: dict[str, QueuePlace | None] = {}
        for number, ids in groups.items():
            found.update(zip(ids, await self.shards[number].ledger.places(ids), strict=True))
        models = {place.model for place in found.values() if place is not None}
        waiting: dict[tuple[int, str], int] = {}
        if models:
            for number, demands in (await self._answers(lambda ledger: ledger.demand([*models]))).items():
                for demand in demands:
                    queue = number, demand.model
                    waiting[queue] = waiting.get(queue, 0) + demand.waiting
        return [self._place_of_all(each, found[each], waiting) for each in request_ids]

    def _place_of_all(
        self, request_id: str, place: QueuePlace | None, waiting: dict[tuple[int, str], int]
    ) -> QueuePlace | None:
        """The place among the requests of all shards, which take turns."""
        if place is None:
            return None
        own = self.placement.shard_of(request_id)
        others = sum(
            min(count, place.place - 1)
            for (number, model), count in waiting.items()
            if number != own and model == place.model
        )
        return QueuePlace(place.model, place.place + others, place.wait_s)

    async def info(self, request_id: str) -> RequestInfo:
        return await self._home(request_id).info(request_id)

    async def read(self, request_id: str, after: int = 0) -> LogSlice:
        return await self._home(request_id).read(request_id, after)

    async def follow(self, request_id: str, after: int = 0) -> Follower:
        return await self._home(request_id).follow(request_id, after)

    async def cancel(self, request_id: str) -> bool:
        return await self._home(request_id).cancel(request_id)

    async def forget(self, request_id: str) -> None:
        await self._home(request_id).forget(request_id)

    # For workers.

    async def beat(self, worker: str) -> BeatResult:
        return await self._workers.beat(worker)

    async def leave(self, worker: str) -> None:
        await self._workers.leave(worker)

    async def claim(self, worker: str, model: str, slots: int, *, hand_out: int = 0) -> list[Claim]:
        return await self._workers.claim(worker, model, slots, hand_out)

    def handed(self, worker: str, model: str) -> list[Claim]:
        return self._workers.handed(worker, model)

    def has_open_slots(self, worker: str, model: str) -> bool:
        return self._workers.has_open_slots(worker, model)

    async def preempt(self, worker: str, model: str, offered: Sequence[SlotOffer]) -> Preemption | None:
        return await self._workers.preempt(worker, model, offered)

    async def append(self, entries: Sequence[AppendEntry]) -> list[AppendResult]:
        return await self._workers.append(entries)

    async def finish(self, request_id: str, epoch: int, end: Terminal) -> AppendResult:
        return await self._workers.finish(request_id, epoch, end)

    async def release(self, request_id: str, epoch: int, how: ReleaseHow, cause: str = "") -> AppendResult:
        return await self._workers.release(request_id, epoch, how, cause)

    async def wait_work(self, worker: str, model: str) -> News:
        return await self._workers.wait_work(worker, model)

    async def demand(self, models: Sequence[str]) -> list[ModelDemand]:
        return merging.sum_demand((await self._some(lambda ledger: ledger.demand(models))).values())

    # For any node.

    @property
    def due_in_s(self) -> float:
        return min((shard.ledger.due_in_s for shard in self.shards if shard.answers), default=math.inf)

    async def reap(self) -> int:
        return sum((await self._answers(lambda ledger: ledger.reap())).values())

    async def statistics(self) -> LedgerStatistics:
        return merging.sum_statistics((await self._some(lambda ledger: ledger.statistics())).values())

    async def take_new_dead_letters(self) -> list[DeadRequest]:
        found = await self._answers(lambda ledger: ledger.take_new_dead_letters())
        return merging.merge_dead_letters(found.values(), sum(map(len, found.values())))

    # For operators.

    async def queue_depths(self) -> list[QueueDepth]:
        return merging.sum_depths((await self._some(lambda ledger: ledger.queue_depths())).values())

    async def open_requests(self, wanted: RequestFilter, limit: int) -> RequestViews:
        found = await self._some(lambda ledger: ledger.open_requests(wanted, limit))
        return merging.merge_views(found.values(), limit)

    async def request_times(self, request_id: str) -> RequestTimes:
        return await self._home(request_id).request_times(request_id)

    async def queue_shares(self, models: Sequence[str]) -> list[QueueShare]:
        return merging.sum_shares((await self._some(lambda ledger: ledger.queue_shares(models))).values())

    async def standings(self, charges: Sequence[Charge]) -> list[Standing]:
        # The keys of charges do not say whose they are. Only the home of a tenant has counted anything.
        found = list((await self._some(lambda ledger: ledger.standings(charges))).values())
        return [min(each, key=_left) for each in zip(*found, strict=True)] if add_up(charges) else []

    async def dead_letters(self) -> list[DeadRequest]:
        found = await self._some(lambda ledger: ledger.dead_letters())
        return merging.merge_dead_letters(found.values(), self.settings.dead_letters_kept)

    async def requeue(self, request_id: str, new_id: str) -> SubmitOutcome:
        """As `Ledger.requeue`. In two steps where the two ids have two shards: the dead letter is removed last."""
        old, new = self._home(request_id), self._home(new_id)
        if old is new:
            return await old.requeue(request_id, new_id)
        letter = next((each for each in await old.dead_letters() if each.request.id == request_id), None)
        if letter is None:
            try:
                await new.info(new_id)
            except NotFound:
                raise no_such_dead_letter(request_id) from None
            except Expired:
                pass  # an earlier call has made it, as below
            return SubmitOutcome.DUPLICATE
        outcome = await new.submit(letter.resubmission(new_id))
        if outcome in {SubmitOutcome.ACCEPTED, SubmitOutcome.DUPLICATE}:
            await old.purge(request_id)
        return outcome

    async def purge(self, request_id: str | None = None) -> int:
        if request_id is not None:
            return await self._home(request_id).purge(request_id)
        return sum((await self._all(lambda ledger: ledger.purge())).values())

    async def usage_records(self, since_ms: int, until_ms: int, after: str = "", limit: int = RECORDS_MAX) -> UsagePage:
        cursors = merging.cursors_of(after, len(self.shards))

        async def page(number: int, most: int) -> UsagePage:
            if cursors[number] == merging.EXHAUSTED:
                return UsagePage((), "")
            return await self.shards[number].ledger.usage_records(since_ms, until_ms, cursors[number], most)

        pages = [await page(shard.number, limit) for shard in self.shards]
        records, counts = merging.oldest_records([each.records for each in pages], limit)
        for number, (each, count) in enumerate(zip(pages, counts, strict=True)):
            if count < len(each.records):
                # Only the shard knows the cursor behind the records that were taken of its page.
                cursors[number] = (await page(number, count)).next if count else cursors[number]
            else:
                cursors[number] = each.next or merging.EXHAUSTED
        is_last = set(cursors) == {merging.EXHAUSTED}
        return UsagePage(tuple(records), "" if is_last else ".".join(cursors))

    async def usage_report(self, since_ms: int, until_ms: int, by: UsageBy) -> UsageReport:
        found = await self._all(lambda ledger: ledger.usage_report(since_ms, until_ms, by))
        return merging.sum_reports([*found.values()])

    # All shards.

    def _home(self, request_id: str) -> ShardLedger:
        return self.shards[self.placement.shard_of(request_id)].ledger

    async def _first(self, operation: Callable[[ShardLedger], Awaitable[T]]) -> T:
        """The answer of the first shard that answers."""
        for shard in self.shards:
            answer = await self._answer(shard, operation)
            if answer is not None:
                return answer
        raise Unavailable("the ledger is away", retry_after_s=1.0)

    async def _some(self, operation: Callable[[ShardLedger], Awaitable[T]]) -> dict[int, T]:
        """The answers of the shards that answer, of which there must be one."""
        found = await self._answers(operation)
        if not found:
            raise Unavailable("the ledger is away", retry_after_s=1.0)
        return found

    async def _all(self, operation: Callable[[ShardLedger], Awaitable[T]]) -> dict[int, T]:
        """The answers of all shards."""
        found = await self._answers(operation, times=4.0)
        if len(found) < len(self.shards):
            away = ", ".join(str(shard.number) for shard in self.shards if shard.number not in found)
            raise Unavailable(f"a part of the ledger is away: shard {away}", retry_after_s=1.0)
        return found

    async def _answers(self, operation: Callable[[ShardLedger], Awaitable[T]], *, times: float = 1.0) -> dict[int, T]:
        found: dict[int, T] = {}

        async def ask(shard: Shard) -> None:
            answer = await self._answer(shard, operation, times)
            if answer is not None:
                found[shard.number] = answer

        async with trio.open_nursery() as nursery:
            for shard in self.shards:
                nursery.start_soon(ask, shard)
        return dict(sorted(found.items()))

    async def _answer(
        self, shard: Shard, operation: Callable[[ShardLedger], Awaitable[T]], times: float = 1.0
    ) -> T | None:
        try:
            return await shard.ask(lambda: operation(shard.ledger), times)
        except Unavailable:
            return None


def _left(standing: Standing) -> int:
    return standing.decision.remaining
