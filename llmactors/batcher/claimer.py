"""The claimer: keeps the worker's lease in the ledger, and claims requests for free slots.

A worker with little to do has its free slots open in the ledger, which hands requests to them: so a request waits for
no trip to the ledger. A busy worker has none open and claims, because a claim brings several requests: those that begin
together run in the same steps, which costs a busy worker less. The claimer claims when there is work that was handed to
nobody, when a slot has become free while none was open, and from time to time, because news can be lost.
"""

import math
import secrets
from collections.abc import Awaitable, Callable, Sequence

import structlog
import trio

from llmactors.backends.messages import Key
from llmactors.batcher.free_slots import FreeSlots, refusal
from llmactors.batcher.takeover_log import TakeoverLog
from llmactors.ledger import Claim, Ledger, News, SlotOffer
from llmactors.messages import Failed

log = structlog.get_logger("llmactors.batcher")


class Claimer:
    """Call `join` once, then run all `tasks`.

    Args:
        ledger: The ledger of the requests.
        model: The model whose requests are claimed.
        node: The name of the node, which no other node has. A worker that joins is a new incarnation of the worker of
            the same node and model: the ledger ends the lease of the one before. Empty: no worker is replaced.
        beat_every_s: The longest time between two beats, in seconds.
        free_slots: Returns how many requests may be claimed now.
        room: Returns how many requests the backend can begin now. These are more than may be claimed where requests
            have ended in the backend, and not in the ledger yet.
        may_be_open: Returns to how many free slots the ledger may hand requests; 0 while the worker is busy.
        begin: Called with the requests that were claimed. There may be none.
        hand_back: Called with requests that cannot be begun, because the backend or the lease changed meanwhile.
        stop: Called with the requests that are no longer wanted.
        lose: Called when the lease was lost, and all requests of this worker were given to others.
        hear_news: Called when the ledger may have new requests for the model.
        preempt_every_s: How often the ledger is asked whether a running request has to give up its slot, while there
            are `offers`. 0: never.
        offers: Returns the requests that may give up their slots, the best one first.
        note_preemption: Called with a request that gave up its slot.
    """

    def __init__(
        self,
        ledger: Ledger,
        model: str,
        *,
        node: str,
        beat_every_s: float,
        free_slots: Callable[[], FreeSlots],
        room: Callable[[], int],
        may_be_open: Callable[[], int] = lambda: 0,
        begin: Callable[[list[Claim]], Awaitable[None]],
        hand_back: Callable[[list[Claim]], Awaitable[None]],
        stop: Callable[[Sequence[Key]], None],
        lose: Callable[[], None],
        hear_news: Callable[[], None] = lambda: None,
        preempt_every_s: float = 0.0,
        offers: Callable[[], Sequence[SlotOffer]] = tuple,
        note_preemption: Callable[[Key], None] = lambda _key: None,
    ) -> None:
        self._ledger = ledger
        self._model = model
        self._name = f"{node or secrets.token_hex(4)}/{model}"
        self._beat_every_s = beat_every_s
        self._free_slots = free_slots
        self._room = room
        self._may_be_open = may_be_open
        self._begin = begin
        self._hand_back = hand_back
        self._stop = stop
        self._lose = lose
        self._hear_news = hear_news
        self._preempt_every_s = preempt_every_s
        self._offers = offers
        self._note_preemption = note_preemption
        self._takeovers = TakeoverLog()
        self.worker = ""
        """This worker's id in the ledger. Empty before `join`, and a new one after each lost lease."""
        self._incarnation = 0
        self._closed = False
        self._may_find_work = True
        """False after a claim left slots empty, until something has changed."""
        self._claim_wanted = trio.Event()
        self._claiming = False
        self._claimed = trio.Event()
        """Set, and replaced by a new one, after each claim."""
        self._beat_due = math.inf
        self._until_beat = trio.CancelScope()
        """The scope in which the next beat is awaited. Its deadline is `_beat_due`."""
        self._beating = False
        self._beaten = trio.Event()
        """Set, and replaced by a new one, after each beat."""
        self._proof = trio.Event()
        """Set, and replaced by a new one, after each beat."""

    def __repr__(self) -> str:
        doing = [text for text, true in (("claims", self._claiming), ("beats", self._beating)) if true]
        return f"<Claimer {self.worker} {' and '.join(doing) or 'idle'}>"

    async def join(self, incarnation: int) -> None:
        """Becomes a new worker of the ledger, with a lease. `incarnation` is the batcher's, for the worker's name."""
        self._incarnation = incarnation
        self.worker = f"{self._name}#{incarnation}-{secrets.token_hex(4)}"
        await self._ledger.beat(self.worker)

    @property
    def tasks(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """What is to run in the background, for ever."""
        watching = self.watch_for_work, self.watch_for_preemption, self.watch_the_clock
        return self.claim_for_ever, self.beat_for_ever, *watching

    @property
    def claiming(self) -> bool:
        """Whether a claim is under way."""
        return self._claiming

    async def join_anew(self) -> None:
        """Becomes another worker of the ledger, which keeps no suspect back for this one any more. This one must hold
        nothing and have no free slots.
        """
        await self.wait_claimed()
        before = self.worker
        await self.join(self._incarnation)
        await self._ledger.leave(before)

    def work_possible(self) -> None:
        """Tells the claimer that slots or requests have become free, so that a claim may find something."""
        self._may_find_work = True
        self.claim_soon()

    def slots_freed(self) -> None:
        """Tells the claimer that requests of this worker have ended. Their slots are open where others are."""
        if not (self._may_be_open() and self._ledger.has_open_slots(self.worker, self._model)):
            self.work_possible()

    def claim_soon(self) -> None:
        """Claims where there are free slots, unless the last claim left slots empty and nothing has changed since.

        Closes the slots that are open though none is free, because the backend or the node takes no requests.
        """
        is_free = self._free_slots().count > 0
        if self._may_find_work if is_free else self._ledger.has_open_slots(self.worker, self._model):
            self._claim_wanted.set()

    async def wait_claimed(self) -> None:
        """Returns once no claim is under way."""
        while self._claiming:
            await self._claimed.wait()

    async def close_slots(self) -> None:
        """Has the ledger hand out nothing more, and hands back what it handed out meanwhile. Call this while no slot is
        free.
        """
        await self.wait_claimed()
        while self.worker and self._ledger.has_open_slots(self.worker, self._model):
            await self._hand_back(await self._ledger.claim(self.worker, self._model, 0))
        await self._hand_back(self._ledger.handed(self.worker, self._model))

    async def close(self) -> None:
        """Ends all beats and claims. Returns once none is under way."""
        self._closed = True
        await self.wait_claimed()
        while self._beating:
            await self._beaten.wait()

    async def leave(self) -> None:
        """Ends the lease. Requests that this worker still holds go back to the queue, as after a failure."""
        await self._ledger.leave(self.worker)

    async def claim_for_ever(self) -> None:
        """Claims whenever that is wanted. Raises what the ledger raises."""
        while True:
            await self._claim_wanted.wait()
            self._claim_wanted = trio.Event()
            if self._closed:
                continue
            self._claiming = True
            await self._begin_handed()
            await self._fill_free_slots()
            await self._give_way_where_due()
            self._claiming = False
            self._claimed.set()
            self._claimed = trio.Event()
            self.claim_soon()

    async def beat_for_ever(self) -> None:
        """Beats whenever that is due. Raises what the ledger raises."""
        while True:
            with trio.CancelScope(deadline=self._beat_due) as self._until_beat:
                await trio.sleep_forever()
            self._beat_due = math.inf
            if self._closed:
                continue
            self._beating = True
            await self._beat()
            self._beating = False
            self._beaten.set()
            self._beaten = trio.Event()
            self._prove()

    async def watch_for_work(self) -> None:
        """Claims or beats whenever the ledger has news.

        The ledger has news of a lost lease again and again, until a beat finds the loss. So this task hears of a stop
        at most twice until a beat has shown whether the lease holds.
        """
        heard = None
        while True:
            news = await self._ledger.wait_work(self.worker, self._model)
            if News.WORK in news:
                self._hear_news()
            if News.WORK in news or not news:
                self._may_find_work = True
            if news is not News.STOP:
                self._claim_wanted.set()
            if News.STOP in news:
                self._beat_within(0.0)
                if heard is self._proof:
                    await self._proof.wait()
                heard = self._proof

    async def watch_the_clock(self) -> None:
        """Beats and claims every `beat_every_s`, because news from the ledger can be lost."""
        while True:
            await trio.sleep(self._beat_every_s)
            self._beat_within(0.0)
            self.work_possible()

    async def watch_for_preemption(self) -> None:
        """While no slot is free, looks every `preempt_every_s` whether a request has to give up its slot."""
        while self._preempt_every_s:
            await trio.sleep(self._preempt_every_s)
            if self._offers():
                self._claim_wanted.set()

    async def _give_way_where_due(self) -> None:
        """Lets requests give up their slots to more urgent requests that have waited for too long."""
        worker, incarnation = self.worker, self._free_slots().incarnation
        while self._preempt_every_s and (offered := self._offers()):
            swap = await self._ledger.preempt(worker, self._model, offered)
            if swap is None:
                return
            claim, free = swap.claim, self._free_slots()
            self._note_preemption(swap.given_up)
            log.info(
                "a request gave up its slot to a request of a more urgent class",
                request_id=swap.given_up[0],
                to=claim.request.id,
                waited_s=round(claim.waited_s, 3),
            )
            self._takeovers.note(worker, [claim])
            self._stop([swap.given_up])
            if worker != self.worker or incarnation != free.incarnation:
                await self._hand_back([claim])
            elif (error := refusal(free.capabilities, claim)) is not None:
                await self._ledger.finish(claim.request.id, claim.epoch, Failed(error.code, error.message))
            else:
                await self._begin([claim])

    def _beat_within(self, seconds: float) -> None:
        self._beat_due = min(self._beat_due, trio.current_time() + seconds)
        self._until_beat.deadline = self._beat_due

    def _prove(self) -> None:
        self._proof.set()
        self._proof = trio.Event()

    async def _begin_handed(self) -> None:
        """Begins the requests that were handed to this worker. Hands back what the backend cannot take any more."""
        handed = self._ledger.handed(self.worker, self._model)
        if not handed:
            return
        self._takeovers.note(self.worker, handed)
        usable = await self._end_refused(self._free_slots(), handed)
        room = self._room()
        await self._begin(usable[:room])
        await self._hand_back(usable[room:])

    async def _fill_free_slots(self) -> None:
        """Claims for all free slots. Closes the open slots where none is free."""
        free = self._free_slots()
        if free.count < 1:
            if self._ledger.has_open_slots(self.worker, self._model):
                await self._hand_back(await self._ledger.claim(self.worker, self._model, 0))
            return
        if not self._may_find_work:
            return
        self._may_find_work = False
        worker = self.worker
        claims = await self._claim(worker, free)
        if worker == self.worker and free.incarnation == self._free_slots().incarnation:
            await self._begin(claims)
        elif claims:
            await self._hand_back(claims)

    async def _beat(self) -> None:
        """Renews the lease, drops requests that are no longer wanted, and joins again where the lease was lost."""
        worker = self.worker
        beat = await self._ledger.beat(worker)
        if worker != self.worker:
            return  # the claimer has joined anew meanwhile, and the answer says nothing of the new worker
        if not beat.live:
            self._lose()
            await self.join(self._incarnation)
        elif beat.stop:
            self._stop(beat.stop)
        else:
            return
        self.work_possible()

    async def _claim(self, worker: str, free: FreeSlots) -> list[Claim]:
        """Returns requests that this backend can begin or continue. Ends those that it cannot continue."""
        claims: list[Claim] = []
        while free.count > len(claims):
            left, hand_out = free.count - len(claims), self._may_be_open() if free.begin_apart else 0
            got = await self._ledger.claim(worker, self._model, left, hand_out=hand_out)
            self._takeovers.note(worker, got)
            usable = await self._end_refused(free, got)
            claims += usable
            if len(usable) == len(got):
                break
        return claims

    async def _end_refused(self, free: FreeSlots, claims: Sequence[Claim]) -> list[Claim]:
        """Ends the requests that this backend can neither begin nor continue, and returns the others."""
        usable = []
        for claim in claims:
            if (error := refusal(free.capabilities, claim)) is None:
                usable.append(claim)
            else:
                await self._ledger.finish(claim.request.id, claim.epoch, Failed(error.code, error.message))
        return usable
