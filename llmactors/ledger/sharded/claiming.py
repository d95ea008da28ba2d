"""From which shards a worker claims, and on which its free slots are open.

No slot is open on two shards, and none is both open and claimed for. So a claim first takes from the shards what waits
there, and then divides the slots that are left among the shards that the worker prefers. Where a shard hands out more
than the worker has room for, as one that was away may do, the worker hands back what it cannot begin.
"""

import math
import zlib
from collections.abc import Awaitable, Callable, Sequence

import trio

from llmactors.ledger.sharded.members import Member
from llmactors.ledger.sharded.preference import Preference
from llmactors.ledger.sharded.shard import Shard
from llmactors.ledger.values import Claim, News, QueueView

_LOOK_AT_QUEUES_S = 0.25
"""How old what is known of the queues may be, in seconds."""
_OTHERS_FIRST_S = 0.1
"""How long a worker leaves new requests on a shard to the workers that prefer the shard, in seconds."""
_HELPS_S = 1.0
"""How long a worker claims at once from a shard where a request has waited for half of this."""


class Claiming:
    """The claims of all workers of this process.

    `tell` wakes a worker, `hears` says whether a worker listens for news, and `hand_back` hands back a claim that its
    worker cannot begin. `nursery` runs what outlives an operation; None before the ledger runs.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        tell: Callable[[Member, str, News], None],
        hears: Callable[[Member, str], bool],
        hand_back: Callable[[Claim], Awaitable[None]],
    ) -> None:
        self.nursery: trio.Nursery | None = None
        self._shards = shards
        self._tell = tell
        self._hears = hears
        self._hand_back = hand_back
        self._preferences: dict[tuple[str, str], Preference] = {}
        self._looked_at: dict[tuple[str, str], float] = {}

    def __repr__(self) -> str:
        return f"<Claiming of {len(self._preferences)} workers>"

    async def claim(self, member: Member, model: str, slots: int, hand_out: int) -> list[Claim]:
        """As `Ledger.claim`."""
        got = [*member.late.pop(model, []), *self._take_handed(member, model)]
        claims = await self._begin(member, got, slots)
        self._look_at_queues(member, model)
        is_mostly_free = slots > len(member.held)
        if hand_out and await self._renew(member, model, claims, slots, hand_out, is_mostly_free=is_mostly_free):
            return claims
        await self._fill(member, model, claims, slots, is_mostly_free=is_mostly_free)
        shares = self._to_open(member, model, min(hand_out, slots - len(claims)), is_mostly_free=is_mostly_free)
        if shares:
            await self._take(member, model, claims, slots, shares, opens=True)
        if member.suspects and (now_open := self._open(member, model)):
            # Nothing may run beside the request in quarantine that came while the slots were opened.
            await self._take(member, model, claims, slots, dict.fromkeys(now_open, 0))
        return claims

    def handed(self, member: Member, model: str) -> list[Claim]:
        """As `Ledger.handed`. Hands back what must not run beside the requests that the worker has."""
        claims = []
        for number, claim in self._take_handed(member, model):
            if not member.suspects and member.take(claim, number):
                claims.append(claim)
            elif self.nursery is not None:
                self.nursery.start_soon(self._hand_back, claim)
        return claims

    def has_open_slots(self, member: Member, model: str) -> bool:
        """As `Ledger.has_open_slots`, of the shards that can be asked to close them."""
        return bool(self._open(member, model))

    async def wait_for_others(self, member: Member, model: str, shard: int) -> None:
        """Waits a moment where other workers prefer the shard, and do not leave requests waiting there."""
        own = self._preference(member, model).own_shards(self._answering() & member.joined, is_mostly_free=True)
        helps = member.help_until.get((model, shard), 0.0) > trio.current_time()
        if own and shard not in own and not helps:
            await trio.sleep(_OTHERS_FIRST_S)

    def drop(self, worker: str) -> None:
        """Forgets a worker."""
        for known in (self._preferences, self._looked_at):
            for key in [key for key in known if key[0] == worker]:
                del known[key]

    def _take_handed(self, member: Member, model: str) -> list[tuple[int, Claim]]:
        found = []
        for shard in self._shards:
            handed = shard.ledger.handed(member.names[shard.number], model)
            found += [(shard.number, claim) for claim in handed]
            if handed and (model, shard.number) in member.open:
                member.open[model, shard.number] -= len(handed)
        return found

    def _answering(self) -> set[int]:
        return {shard.number for shard in self._shards if shard.answers}

    def _open(self, member: Member, model: str) -> dict[int, int]:
        """How many slots are open on the shards that answer, at most."""
        return {
            number: max(0, member.open.get((model, number), 0))
            for number in self._answering()
            if self._shards[number].ledger.has_open_slots(member.names[number], model)
        }

    async def _renew(
        self, member: Member, model: str, claims: list[Claim], slots: int, hand_out: int, *, is_mostly_free: bool
    ) -> bool:
        """Opens the slots anew that are open, since a shard may forget them. False where a claim is to find others."""
        shares = self._to_open(member, model, min(hand_out, slots - len(claims)), is_mostly_free=is_mostly_free)
        if not shares or self._open(member, model) != shares:
            return False
        if member.where_to_claim(model, self._answering(), hears=self._hears(member, model)) - shares.keys():
            return False
        before = len(claims)
        await self._take(member, model, claims, slots, shares, opens=True)
        return len(claims) == before

    def _to_open(self, member: Member, model: str, slots: int, *, is_mostly_free: bool) -> dict[int, int]:
        """On which shards how many slots are to be open."""
        if slots < 1 or member.suspects or member.reserved_for is not None:
            return {}
        shards = {number for number in self._answering() & member.joined if not self._shards[number].kept}
        own = self._preference(member, model).own_shards(shards, is_mostly_free=is_mostly_free)
        among = sorted(own.keys() or shards)
        each, more = divmod(slots, len(among)) if among else (0, 0)
        # Where there are fewer slots than shards, workers begin with different ones.
        first = zlib.crc32(member.worker.encode()) % max(1, len(among))
        turned = among[first:] + among[:first]
        shares = {number: each + (place < more) for place, number in enumerate(turned)}
        return {number: share for number, share in shares.items() if share}

    async def _fill(self, member: Member, model: str, claims: list[Claim], slots: int, *, is_mostly_free: bool) -> None:
        """Claims what waits on any shard. Closes the slots that are open, since they are claimed for now."""
        preference = self._preference(member, model)
        now_open = self._open(member, model)
        tried: set[int] = set()
        while len(claims) < slots or now_open:
            # A shard that is yet to be told how claims ended would have the worker hold more than it has slots.
            answering = {shard.number for shard in self._shards if shard.answers and not shard.kept}
            asked = member.where_to_claim(model, answering - tried, hears=self._hears(member, model))
            own = preference.own_shards(answering & member.joined, is_mostly_free=is_mostly_free)
            asked = asked & own.keys() or asked
            free = slots - len(claims)
            shares: dict[int, int] = {}
            for number, count in now_open.items():
                # What is handed out while the slots are closed comes with the answer.
                shares[number] = 0 if member.suspects or member.reserved_for is not None else min(count, free)
                free -= shares[number]
            if asked and free > 0:
                weight_of = own if asked <= own.keys() else preference.weights
                for number, share in member.rotation(model).share(free, asked, weight_of).items():
                    shares[number] = shares.get(number, 0) + share
                member.reserved_for = None
            if not shares:
                break
            now_open = {}
            found = await self._take(member, model, claims, slots, shares)
            for number, share in shares.items():
                some = found.get(number, ())
                if number not in own and any(claim.waited_s >= _OTHERS_FIRST_S / 2 for claim in some):
                    member.help_until[model, number] = trio.current_time() + _HELPS_S
                if len(some) < share:
                    tried.add(number)

    async def _take(
        self,
        member: Member,
        model: str,
        claims: list[Claim],
        slots: int,
        shares: dict[int, int],
        *,
        opens: bool = False,
    ) -> dict[int, list[Claim]]:
        """Claims so many requests of each shard, and adds what the worker can begin to `claims`. Where it `opens`, what
        is left of each share stays open there.
        """
        found: dict[int, list[Claim]] = {}
        async with trio.open_nursery() as nursery:
            for number, share in shares.items():
                nursery.start_soon(self._claim_one, member, model, self._shards[number], share, opens, found)
        got = [(number, claim) for number in shares for claim in found.get(number, ())]
        claims += await self._begin(member, got, slots - len(claims))
        return found

    async def _begin(self, member: Member, got: Sequence[tuple[int, Claim]], slots: int) -> list[Claim]:
        """The claims that the worker can begin. Hands all others back."""
        claims: list[Claim] = []
        for number, claim in sorted(got, key=_quarantined):
            if len(claims) < slots and member.take(claim, number):
                claims.append(claim)
            else:
                await self._hand_back(claim)
        return claims

    async def _claim_one(
        self, member: Member, model: str, shard: Shard, slots: int, opens: bool, found: dict[int, list[Claim]]
    ) -> None:
        """Adds what a shard hands out to `found`. What comes too late is for the next claim."""
        name = member.names[shard.number]

        async def claim() -> list[Claim]:
            member.begin_claim(model, shard.number, slots if opens else 0, takes=slots > 0)
            is_answered = False
            try:
                claims = await shard.ledger.claim(name, model, slots, hand_out=slots if opens else 0)
                is_answered = True
            finally:
                member.end_claim(model, shard.number)
                if not is_answered:  # the next claim is given what this one was given
                    member.note_news(model, shard.number)
                    self._tell(member, model, News.WORK)
            if slots and len(claims) >= slots:
                member.note_news(model, shard.number)  # there may be more
            return claims

        def keep(claims: list[Claim]) -> None:
            member.keep_late(model, shard.number, name, claims)
            self._tell(member, model, News.WORK)  # also of what was heard of the shard meanwhile

        claims = await shard.ask_to_the_end(claim, keep)
        if claims is not None:
            found[shard.number] = claims
            if opens:
                member.open[model, shard.number] = max(0, slots - len(claims))

    def _preference(self, member: Member, model: str) -> Preference:
        return self._preferences.setdefault((member.worker, model), Preference(member.worker))

    def _look_at_queues(self, member: Member, model: str) -> None:
        """Has the queues looked at again, if what is known of them is old. Nothing waits for that."""
        now, key = trio.current_time(), (member.worker, model)
        if self.nursery is not None and self._looked_at.get(key, -math.inf) + _LOOK_AT_QUEUES_S <= now:
            self._looked_at[key] = now
            self.nursery.start_soon(self._read_queues, member, model)

    async def _read_queues(self, member: Member, model: str) -> None:
        found: dict[int, QueueView] = {}

        async def read(shard: Shard) -> None:
            name = member.names[shard.number]
            view = await shard.ask(lambda: shard.ledger.queue_view(name, model))
            if view is not None:
                found[shard.number] = view

        async with trio.open_nursery() as nursery:
            for shard in self._shards:
                nursery.start_soon(read, shard)
        self._preference(member, model).learn(dict(sorted(found.items())))


def _quarantined(found: tuple[int, Claim]) -> bool:
    """A request in quarantine comes last, since it may run only beside others of its shard."""
    return found[1].quarantined
