"""The batcher: claims requests for free slots, drives one backend with them, writes the outputs to the ledger.

The actor's own task handles one message at a time: what the backend says, and what the other tasks say. The claimer and
the writer run beside it, so that no token waits for another request's trip to the ledger.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence

import structlog
import trio

from llmactors.actors import Actor, ActorRef, Context, Down, ExitKind, MailboxFull
from llmactors.backends.base import Batching, Capabilities, Job, was_frozen
from llmactors.backends.directory import ModelDirectory, ModelState, ModelStatus
from llmactors.backends.messages import (
    Assign,
    BackendEnding,
    BackendMessage,
    BackendReady,
    BackendStalled,
    Hello,
    Key,
    Produced,
)
from llmactors.backends.residency import Residency
from llmactors.batcher.claim_trace import ClaimTraces
from llmactors.batcher.claimer import Claimer
from llmactors.batcher.forming import BatchFormer
from llmactors.batcher.free_slots import FreeSlots
from llmactors.batcher.giving_way import offers
from llmactors.batcher.messages import BatchDue, BatcherMessage, CordonChanged, DrainBatcher, SlotsFreed
from llmactors.batcher.recent_peak import RecentPeak
from llmactors.batcher.running import Running
from llmactors.batcher.settings import BatcherSettings
from llmactors.batcher.window_timer import WindowTimer
from llmactors.batcher.writer import Writer
from llmactors.errors import STREAM_CODES, BackendFailed
from llmactors.ledger import Claim, ClaimEnd, Ledger, ReleaseHow, SlotOffer
from llmactors.messages import Failed
from llmactors.telemetry import Metrics
from llmactors.telemetry.tracing.tracer import Tracer

log = structlog.get_logger("llmactors.batcher")

_FEW_RUNNING = 8
"""A worker that has run more requests at a time is busy: requests are not handed to it, and it claims them."""
_BUSY_S = 0.5
"""How long a worker is busy at least, in seconds."""


class BatcherActor(Actor[BatcherMessage]):
    """The batcher of one model. Each incarnation is a worker of its own in the ledger.

    The requests of an incarnation go back to the queue when the incarnation ends, for any reason. Their logs stay as
    they are, and the next worker continues behind the last token. A model without a `residency` is always in memory.

    While the backend is stalled and `is_ready_elsewhere` returns True, because another worker has the model and works
    on requests, the batcher claims none. While `takes_work` returns False, because the node has a cordon, the batcher
    holds no request and claims none.
    """

    def __init__(
        self,
        model: str,
        *,
        backend: ActorRef[BackendMessage],
        ledger: Ledger,
        directory: ModelDirectory,
        settings: BatcherSettings,
        metrics: Metrics,
        residency: Residency | None = None,
        tracer: Tracer | None = None,
        takes_work: Callable[[], bool] = lambda: True,
        is_ready_elsewhere: Callable[[], bool] = lambda: False,
    ) -> None:
        self._model = model
        self._residency = residency or Residency(model, always=True)
        self._backend = backend
        self._ledger = ledger
        self._directory = directory
        self._settings = settings
        self._metrics = metrics
        self._work = metrics.models.work(model)
        self._running: dict[Key, Running] = {}
        self._former = BatchFormer(settings.window_s)
        self._window = WindowTimer(lambda: self._tell_self(BatchDue()))
        self._capabilities: Capabilities | None = None
        self._ready_incarnation = 0
        """The backend's incarnation that takes jobs; 0 while there is none."""
        self._ended_incarnation = 0
        """The backend's newest incarnation that is known to be dead: its messages in the mailbox count no more."""
        self._draining = False
        self._peak = RecentPeak(_BUSY_S)
        self._takes_work = takes_work
        self._is_ready_elsewhere = is_ready_elsewhere
        self._is_stalled = False
        """Whether the backend makes no tokens, because a step hangs or no upstream gets requests."""
        self._has_handed_over = False
        """Whether this batcher holds nothing and claims nothing, because its node has a cordon."""
        self._traces = None if tracer is None else ClaimTraces(tracer)
        freed = self._note_freed_slots
        self._writer = Writer(ledger, self._running, drop=self._drop, freed=freed, traces=self._traces)
        self._claimer = Claimer(
            ledger,
            model,
            node=settings.node,
            beat_every_s=settings.beat_every_s,
            free_slots=self._free_slots,
            room=self._room,
            may_be_open=self._may_be_open,
            begin=self._begin,
            hand_back=self._hand_back_unbegun,
            stop=self._stop,
            lose=self._lose_everything,
            hear_news=self._residency.note_demand,
            preempt_every_s=settings.preempt_every_s,
            offers=self._offers,
            note_preemption=self._note_preemption,
        )

    def __repr__(self) -> str:
        return f"<BatcherActor {self._claimer.worker} running={len(self._running)} waiting={len(self._former)}>"

    async def on_start(self, context: Context) -> None:
        self._ref = context.ref
        self._residency.on_wanted = self._tell_slots_freed
        self._count_running()  # none: what an earlier incarnation held has gone back
        context.watch(self._backend)
        self._backend.tell_nowait(Hello())
        context.spawn(self._writer.run)
        context.spawn(self._join_and_claim, context)
        context.spawn(self._window.run)

    async def _join_and_claim(self, context: Context) -> None:
        # A task, because the ledger may be away, and the node starts all the same.
        await self._claimer.join(context.ref.incarnation)
        for task in self._claimer.tasks:
            context.spawn(task)

    async def on_message(self, message: BatcherMessage) -> None:
        if self._draining:
            return  # this worker holds no request, and claims no more
        await self._obey_cordon()
        match message:
            case DrainBatcher():
                await self._drain()
                return
            case SlotsFreed():
                self._claimer.slots_freed()
                self._count_running()
                if self._count_free_slots() > 0:
                    return  # the claim that follows may add to the next static batch, and starts it
            case BatchDue() | CordonChanged():
                pass
            case Produced():
                await self._take_in(message)
            case _ if message.incarnation > self._ended_incarnation:  # else its `Down` came before this
                await self._hear_of_backend(message)
        await self._start_due_batch()
        self._claimer.claim_soon()
        self._count_running()
        await self._unload_if_done()

    async def _hear_of_backend(self, message: BackendReady | BackendStalled | BackendEnding) -> None:
        match message:
            case BackendReady():
                self._ready_incarnation = message.incarnation
                self._capabilities = message.capabilities
                self._is_stalled = False
                self._show(ModelState.READY)
            case BackendStalled():
                self._is_stalled = True
                self._show(ModelState.STALLED, message.reason)
            case BackendEnding():
                await self._take_back_untouched(message)

    async def on_down(self, down: Down) -> None:
        """The backend died: all its requests go back, to continue from their logs once a backend is ready again."""
        if down.incarnation <= self._ended_incarnation:
            return
        self._ended_incarnation = down.incarnation
        self._ready_incarnation = 0
        self._show(ModelState.DOWN, str(down.exit))
        self._metrics.worker_error()
        # No request has crashed a backend that was stopped, by its supervisor or from outside.
        how = (
            ReleaseHow.FAILED
            if down.exit.kind is ExitKind.CRASHED and not was_frozen(down.exit.error)
            else ReleaseHow.SILENT
        )
        await self._writer.wait_written()
        await self._release_waiting()
        await self._release([*self._running], how, str(down.exit))
        self._count_running()
        self._claimer.claim_soon()  # closes the slots that are open
        if not self._residency.always and not self._draining:
            await self._claimer.join_anew()  # a suspect that is kept back for this worker would not count as demand

    async def on_stop(self) -> None:
        if self._traces is not None:
            self._traces.end_all(ClaimEnd.LEFT.value)
        if self._claimer.worker and not self._draining:
            await self._claimer.leave()

    async def _drain(self) -> None:
        """Appends what the backend said before this message, hands back everything, and leaves the ledger."""
        self._draining = True
        await self._claimer.close()
        await self._claimer.close_slots()
        await self._hand_over()
        await self._claimer.leave()

    async def _obey_cordon(self) -> None:
        """Hands everything back where the node has got a cordon, and claims again where the cordon is over."""
        if self._takes_work() is not self._has_handed_over:
            return
        self._has_handed_over = not self._has_handed_over
        if not self._has_handed_over:
            self._claimer.work_possible()
            return
        await self._claimer.close_slots()
        await self._hand_over()
        if self._claimer.worker:
            await self._claimer.join_anew()  # a suspect that is kept back for this worker would never run

    async def _hand_over(self) -> None:
        await self._writer.wait_written()
        await self._release_waiting()
        if self._running and self._ready_incarnation:
            self._tell_backend(evict=tuple(self._running))
        await self._release([*self._running], ReleaseHow.SILENT, "the worker drains")
        self._count_running()

    async def _unload_if_done(self) -> None:
        """Has the model unloaded if it is to leave the memory, and if no request is held or being claimed here."""
        held = self._running or self._former or self._claimer.claiming
        if not held and not self._residency.wanted and self._ready_incarnation:
            await self._claimer.close_slots()
            self._tell_backend(unload=True)
            self._ready_incarnation = 0
            await self._claimer.join_anew()

    # What the claimer brings.

    def _free_slots(self) -> FreeSlots:
        return FreeSlots(self._count_free_slots(), self._ready_incarnation, self._capabilities)

    def _may_be_open(self) -> int:
        """To how many free slots the ledger may hand requests, of which each begins by itself; 0 for a busy worker."""
        is_busy = self._peak.highest(trio.current_time()) > _FEW_RUNNING
        return 0 if is_busy else max(0, _FEW_RUNNING - len(self._running))

    def _count_free_slots(self) -> int:
        capabilities = self._capabilities
        if capabilities is None or not self._takes_requests():
            return 0
        if capabilities.batching is Batching.STATIC:
            # While a batch runs, requests stay in the queue, where other workers can claim them.
            return 0 if self._running else capabilities.slots - len(self._former)
        return capabilities.slots - len(self._running)

    def _room(self) -> int:
        """How many requests the backend can begin. One that has ended there takes no slot of the backend any more."""
        if self._capabilities is None or not self._takes_requests():
            return 0
        return max(0, self._capabilities.slots - sum(each.end is None for each in self._running.values()))

    def _takes_requests(self) -> bool:
        # A cordon that ends while this worker still hands everything back is obeyed with the next message.
        takes_work = self._takes_work() and not self._has_handed_over and not self._draining
        ready = self._ready_incarnation and self._residency.wanted and takes_work
        return bool(ready) and not (self._is_stalled and self._is_ready_elsewhere())

    async def _begin(self, claims: list[Claim]) -> None:
        """Gives claimed requests to the backend, or to the former of static batches."""
        if self._capabilities is not None and self._capabilities.batching is Batching.STATIC:
            now = trio.current_time()
            for claim in claims:
                self._former.add(claim, now)
            await self._start_due_batch()
        else:
            await self._start(claims)
        self._count_running()

    def _offers(self) -> list[SlotOffer]:
        """The requests that may give up their slots, the best one first; none while a slot is free."""
        capabilities = self._capabilities
        is_full = self._ready_incarnation and self._residency.wanted and self._count_free_slots() < 1
        if capabilities is None or not is_full:
            return []
        return offers(self._running.values(), capabilities, trio.current_time(), self._settings.least_turn_s)

    async def _start(self, claims: list[Claim]) -> None:
        """Gives claimed requests to the backend. Hands them back where the backend takes none any more."""
        if not claims:
            return
        started = [Running(claim, trio.current_time()) for claim in claims]
        self._running.update((running.key, running) for running in started)
        self._peak.note(len(self._running), trio.current_time())
        if self._traces is not None:
            self._traces.begin(started, self._claimer.worker)
        if self._tell_backend(admit=tuple(Job(each.key, each.claim.request, each.claim.tokens) for each in started)):
            self._metrics.batch(len(claims))
            for claim in claims:
                self._work.claimed(claim.request.priority, claim.waited_s)
                if claim.tokens and claim.earlier:
                    ended = claim.earlier[-1].ended
                    self._work.took_over("unknown" if ended is None else ended.value)
        else:
            await self._release([running.key for running in started], ReleaseHow.SILENT)

    # Static batches.

    async def _start_due_batch(self) -> None:
        """Starts the next static batch where one is due. Otherwise sets the time when one will be."""
        due = math.inf
        if self._former and self._capabilities is not None and self._ready_incarnation and not self._running:
            batch = self._former.next_batch(trio.current_time(), self._capabilities.slots)
            if batch:
                await self._start(batch)
            else:
                due = self._former.due(self._capabilities.slots)
        self._window.set(due)

    # What goes back.

    async def _take_back_untouched(self, ending: BackendEnding) -> None:
        """Hands back at once the requests that the backend has not begun. The others wait for the cause of its end."""
        self._ready_incarnation = 0
        self._show(ModelState.DOWN, "its backend is ending")
        await self._writer.wait_written()
        await self._release_waiting()
        unbegun = [key for key in self._running if key not in ending.begun]
        await self._release(unbegun, ReleaseHow.SILENT, "the backend ended before it had begun the request")

    async def _release_waiting(self) -> None:
        await self._hand_back_unbegun(self._former.clear())

    async def _hand_back_unbegun(self, claims: list[Claim]) -> None:
        await self._hand_back([(claim.request.id, claim.epoch) for claim in claims], ReleaseHow.SILENT)

    async def _release(self, keys: Iterable[Key], how: ReleaseHow, cause: str = "") -> None:
        """Hands back claims that no backend holds any more."""
        ended = ClaimEnd.CRASHED if how is ReleaseHow.FAILED else ClaimEnd.HANDED_BACK
        await self._hand_back([key for key in keys if self._forget(key, ended.value)], how, cause)

    async def _hand_back(self, keys: Sequence[Key], how: ReleaseHow, cause: str = "") -> None:
        if not keys:
            return
        self._claimer.work_possible()
        async with trio.open_nursery() as nursery:  # all at once, so that other workers can go on with them
            for key in keys:
                nursery.start_soon(self._ledger.release, *key, how, cause)

    def _lose_everything(self) -> None:
        """Drops all requests: the lease was lost, and they were given to other workers."""
        log.warning(
            "the worker lost its lease and drops its requests", worker=self._claimer.worker, running=len(self._running)
        )
        if self._traces is not None:
            self._traces.lose([*self._running])
        self._drop([*self._running])
        self._former.clear()

    def _stop(self, keys: Sequence[Key]) -> None:
        """Drops requests that were cancelled or have expired."""
        self._drop(keys)
        self._tell_slots_freed()

    def _drop(self, keys: Sequence[Key]) -> None:
        """Frees the slots of requests that are no longer wanted from this worker."""
        if keys:
            self._former.drop(frozenset(keys))
            evict = tuple(key for key in keys if self._forget(key))
            if evict and self._ready_incarnation:
                self._tell_backend(evict=evict)

    def _note_preemption(self, key: Key) -> None:
        self._metrics.preempted()
        if self._traces is not None:
            self._traces.end(key, ClaimEnd.PREEMPTED.value)

    def _forget(self, key: Key, how: str = "stopped") -> bool:
        """Returns whether the request ran here. `how` says in the request's trace why it runs here no more."""
        running = self._running.pop(key, None)
        if running is not None:
            if self._traces is not None:
                self._traces.end(key, how)
            self._writer.outbox.drop(running)
            self._note_end_of_batch()
        return running is not None

    # What the backend makes.

    async def _take_in(self, produced: Produced) -> None:
        """Gives outputs to the writer. Waits while too many tokens are unwritten, so that the backend waits too."""
        running_of = self._running.get
        tokens = 0
        stepped: dict[Running, None] = {}
        for output in produced.outputs:
            running = running_of(output.key)
            if running is None:
                continue  # evicted, or of an epoch that ended with an earlier backend
            running.produced(output)
            tokens += len(output.deltas)
            stepped[running] = None
            if output.finish is not None:
                self._work.read_prompt(*running.prompt_usage)
        if stepped:
            self._writer.outbox.put(stepped, tokens)
            self._metrics.step(len(stepped), tokens)
            self._work.made(tokens)
            if self._traces is not None:
                self._traces.stepped(stepped)
        for key, error in produced.failed:
            if (running := self._running.get(key)) is not None:
                self._metrics.worker_error()
                running.end = Failed(error.code if error.code in STREAM_CODES else BackendFailed.code, error.message)
                self._writer.outbox.put({running: None}, 0)
        self._writer.append_soon()
        await self._writer.wait_at_most(self._settings.max_unwritten)

    def _note_freed_slots(self) -> None:
        self._note_end_of_batch()
        self._tell_slots_freed()

    def _tell_slots_freed(self) -> None:
        self._tell_self(SlotsFreed())

    def _tell_self(self, message: SlotsFreed | BatchDue) -> None:
        # A full mailbox has other messages, after each of which free slots are filled and a batch that is due begins.
        with contextlib.suppress(MailboxFull):
            self._ref.tell_nowait(message)

    def _note_end_of_batch(self) -> None:
        """Call this after a request has left the backend."""
        if not self._running:
            self._former.batch_ended(trio.current_time())

    def _tell_backend(self, *, admit: tuple[Job, ...] = (), evict: tuple[Key, ...] = (), unload: bool = False) -> bool:
        """Returns False where the backend's mailbox is full: then the backend is ending, and a `Down` follows."""
        try:
            self._backend.tell_nowait(Assign(admit, evict, unload), incarnation=self._ready_incarnation)
        except MailboxFull:
            self._ready_incarnation = 0
            return False
        return True

    def _count_running(self) -> None:
        self._directory.running[self._model] = len(self._running)
        self._residency.note_running(len(self._running))

    def _show(self, state: ModelState, detail: str = "") -> None:
        """Sets the state of the model in the directory. Of a model that was loaded on demand and crashed, the pool says
        what becomes of it.
        """
        if state is ModelState.DOWN and not self._residency.always:
            return
        if self._directory.put(self._model, ModelStatus(state, self._capabilities, detail)):
            log.info("the state of a model changed", model=self._model, state=state.value, detail=detail)
