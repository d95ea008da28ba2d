"""What the workers of this process do with all shards.

No operation waits for one shard that is away: a claim takes from the others, an append for the shard is kept, and a
beat renews the leases on the others.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import structlog
import trio

from llmactors.errors import Expired, NotFound, Unavailable
from llmactors.ledger.sharded.claiming import Claiming
from llmactors.ledger.sharded.heard import Heard
from llmactors.ledger.sharded.members import Member
from llmactors.ledger.sharded.placement import Placement
from llmactors.ledger.sharded.shard import Key, Shard
from llmactors.ledger.values import (
    AppendEntry,
    AppendOutcome,
    AppendResult,
    BeatResult,
    Claim,
    News,
    Preemption,
    ReleaseHow,
    SlotOffer,
)
from llmactors.messages import Terminal

T = TypeVar("T")

log = structlog.get_logger("llmactors.ledger")

_CLAIM_OVER = {AppendOutcome.FENCED, AppendOutcome.STOP, AppendOutcome.GONE}
_ALL_AWAY_PAUSE_S = 0.05


class ShardedWorkers:
    """The operations of workers."""

    def __init__(self, shards: Sequence[Shard], placement: Placement) -> None:
        self._shards = shards
        self._placement = placement
        self._members: dict[str, Member] = {}
        self._listening: dict[tuple[str, str], Heard] = {}
        self._claiming = Claiming(
            shards,
            tell=self._tell,
            hears=lambda member, model: (member.worker, model) in self._listening,
            hand_back=self._hand_back,
        )
        for shard in shards:
            shard.on_return = partial(self._claim_again, shard.number)

    def __repr__(self) -> str:
        return f"<ShardedWorkers {sorted(self._members)}>"

    @property
    def nursery(self) -> trio.Nursery | None:
        """Runs what outlives an operation; None before the ledger runs."""
        return self._claiming.nursery

    def begin(self, nursery: trio.Nursery) -> None:
        """Has a nursery run what outlives an operation. What ran in an earlier one, which has ended, begins anew."""
        self._claiming.nursery = nursery
        for (worker, model), news in self._listening.items():
            if (member := self._members.get(worker)) is not None:
                self._listen_to_all(nursery, member, model, news)

    async def beat(self, worker: str) -> BeatResult:
        member = self._members.setdefault(worker, Member(worker, len(self._shards)))
        found: dict[int, BeatResult] = {}
        while not found:
            found = await self._ask_all(lambda shard: shard.ledger.beat(member.names[shard.number]))
            if not found:
                await trio.sleep(_ALL_AWAY_PAUSE_S)
        if not any(beat.live for beat in found.values()):
            self._drop(worker)
            return BeatResult(live=False)
        stop: list[Key] = []
        for number, beat in found.items():
            if beat.live:
                member.joined.add(number)
                stop += beat.stop
                continue
            lost = member.lose(number)
            log.warning("a shard ended the worker's lease", worker=worker, shard=number, lost=len(lost))
            stop += lost
            shard = self._shards[number]
            again = await shard.ask(partial(shard.ledger.beat, member.names[number]))
            if again is not None and again.live:
                member.joined.add(number)
        for shard in self._shards:
            stop += [key for key in shard.refused if key in member.held]
        stop += member.over
        member.over.clear()
        for key in stop:
            member.let_go(key)
            self._shards[self._placement.shard_of(key[0])].refused.pop(key, None)
        if member.reserved_for is not None and not await self._is_waiting(*member.reserved_for):
            member.reserved_for = None
        member.look_everywhere()
        return BeatResult(live=True, stop=tuple(stop))

    async def _is_waiting(self, number: int, request_id: str) -> bool:
        """Whether a request waits, as far as its shard can be asked."""
        shard = self._shards[number]
        try:
            info = await shard.ask(lambda: shard.ledger.info(request_id))
        except (NotFound, Expired):
            return False
        except Unavailable:
            return True
        return info is None or info.state == "queued"

    async def leave(self, worker: str) -> None:
        member = self._members.get(worker) or Member(worker, len(self._shards))
        self._drop(worker)
        async with trio.open_nursery() as nursery:
            for shard in self._shards:
                nursery.start_soon(shard.tell_gone, member.names[shard.number])

    async def claim(self, worker: str, model: str, slots: int, hand_out: int) -> list[Claim]:
        member = self._members.get(worker)
        return [] if member is None else await self._claiming.claim(member, model, slots, hand_out)

    def handed(self, worker: str, model: str) -> list[Claim]:
        member = self._members.get(worker)
        return [] if member is None else self._claiming.handed(member, model)

    def has_open_slots(self, worker: str, model: str) -> bool:
        member = self._members.get(worker)
        return member is not None and self._claiming.has_open_slots(member, model)

    async def _hand_back(self, claim: Claim) -> None:
        cause = "the worker has other requests, and cannot begin this one"
        await self.release(claim.request.id, claim.epoch, ReleaseHow.SILENT, cause)

    def _tell(self, member: Member, model: str, what: News) -> None:
        if (news := self._listening.get((member.worker, model))) is not None:
            news.tell(what)

    async def preempt(self, worker: str, model: str, offered: Sequence[SlotOffer]) -> Preemption | None:
        """As `Ledger.preempt`, among the requests of one shard: a request gives its slot to one of the same shard.

        Of a swap that comes too late, the next beat says which request gave up its slot, and the next claim has the
        other request.
        """
        member = self._members.get(worker)
        if member is None:
            return None
        for number, offers in self._by_shard(offered, lambda each: each.request_id).items():
            shard, name = self._shards[number], member.names[number]

            def keep(late: Preemption | None, number: int = number, name: str = name) -> None:
                if late is not None:
                    member.over.append(late.given_up)
                    member.keep_late(model, number, name, [late.claim])
                    self._tell(member, model, News.STOP | News.WORK)

            swap = await shard.ask_to_the_end(partial(shard.ledger.preempt, name, model, offers), keep)
            if swap is not None:
                member.let_go(swap.given_up)
                member.take(swap.claim, number)
                return swap
        return None

    async def append(self, entries: Sequence[AppendEntry]) -> list[AppendResult]:
        groups = self._by_shard(entries, _id_of)
        if len(groups) == 1:
            [(number, _)] = groups.items()
            results = list(await self._shards[number].append(entries))
        else:
            found: dict[int, Sequence[AppendResult]] = {}

            async def append(number: int, some: Sequence[AppendEntry]) -> None:
                found[number] = await self._shards[number].append(some)

            async with trio.open_nursery() as nursery:
                for number, some in groups.items():
                    nursery.start_soon(append, number, some)
            each = {number: iter(some) for number, some in found.items()}
            results = [next(each[self._placement.shard_of(entry.request_id)]) for entry in entries]
        for entry, result in zip(entries, results, strict=True):
            if result.outcome in _CLAIM_OVER or (entry.end is not None and result.outcome is AppendOutcome.OK):
                self._let_go((entry.request_id, entry.epoch))
        return results

    async def finish(self, request_id: str, epoch: int, end: Terminal) -> AppendResult:
        shard, key = self._shards[self._placement.shard_of(request_id)], (request_id, epoch)
        self._let_go(key)
        return await shard.tell(key, lambda: shard.ledger.finish(request_id, epoch, end))

    async def release(self, request_id: str, epoch: int, how: ReleaseHow, cause: str) -> AppendResult:
        shard, key = self._shards[self._placement.shard_of(request_id)], (request_id, epoch)
        self._let_go(key)
        return await shard.tell(key, lambda: shard.ledger.release(request_id, epoch, how, cause))

    async def wait_work(self, worker: str, model: str) -> News:
        member = self._members.get(worker)
        if member is None or self.nursery is None:
            return await self._shards[0].ledger.wait_work(worker, model)
        news = self._listening.get((worker, model))
        if news is None:
            news = self._listening[worker, model] = Heard()
            self._listen_to_all(self.nursery, member, model, news)
        await news.heard.wait()
        return news.take()

    def _listen_to_all(self, nursery: trio.Nursery, member: Member, model: str, news: Heard) -> None:
        for shard in self._shards:
            nursery.start_soon(self._listen, member, model, shard, news)

    async def _listen(self, member: Member, model: str, shard: Shard, news: Heard) -> None:
        while self._members.get(member.worker) is member:
            heard = await shard.ledger.wait_work(member.names[shard.number], model)
            if News.STOP in heard or News.HANDED in heard:
                news.tell(heard & (News.STOP | News.HANDED))
            if News.WORK in heard:
                await self._claiming.wait_for_others(member, model, shard.number)
            if heard != News.HANDED:
                member.note_news(model, shard.number)
                news.tell(heard & ~News.HANDED)

    def _claim_again(self, shard: int) -> None:
        """Has all workers claim from a shard that was slow: what they heard of the shard meanwhile led to no claim."""
        for (worker, model), news in self._listening.items():
            if (member := self._members.get(worker)) is not None:
                member.note_news(model, shard)
                news.tell(News.WORK)

    def _drop(self, worker: str) -> None:
        self._members.pop(worker, None)
        for key in [key for key in self._listening if key[0] == worker]:
            self._listening.pop(key).tell(News.STOP)
        self._claiming.drop(worker)

    def _let_go(self, key: Key) -> None:
        for member in self._members.values():
            member.let_go(key)

    async def _ask_all(self, operation: Callable[[Shard], Awaitable[T]]) -> dict[int, T]:
        """What the shards answer that answer in time."""
        found: dict[int, T] = {}

        async def ask(shard: Shard) -> None:
            answer = await shard.ask(lambda: operation(shard))
            if answer is not None:
                found[shard.number] = answer

        async with trio.open_nursery() as nursery:
            for shard in self._shards:
                nursery.start_soon(ask, shard)
        return found

    def _by_shard(self, items: Sequence[T], id_of: Callable[[T], str]) -> dict[int, list[T]]:
        groups: dict[int, list[T]] = {}
        for item in items:
            groups.setdefault(self._placement.shard_of(id_of(item)), []).append(item)
        return groups


def _id_of(entry: AppendEntry) -> str:
    return entry.request_id
