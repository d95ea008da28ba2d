"""The batcher: claims requests for free slots, drives one backend with them, writes what comes out to the ledger.

Three tasks share the work, so that no token waits for another's trip to the ledger. Messages are handled one at a time;
the writer appends whatever has come meanwhile; the claimer beats, and claims for what is free. The latter two make one
trip at a time each, and what only the writer knows, it says in a message.
"""

import contextlib
import secrets
from collections.abc import Iterable, Sequence

import attrs
import msgspec
import structlog
import trio

from llmactors.actors import Actor, ActorRef, Context, Down, ExitKind, MailboxFull
from llmactors.backends.base import Batching, Capabilities, Job, Takeover
from llmactors.backends.directory import ModelDirectory, ModelState, ModelStatus
from llmactors.backends.messages import Assign, BackendEnding, BackendReady, BackendStalled, Hello, Key, Produced
from llmactors.batcher.forming import BatchFormer
from llmactors.batcher.metrics import BatcherMetrics
from llmactors.batcher.outbox import Outbox
from llmactors.batcher.running import Running
from llmactors.errors import STREAM_CODES, BackendFailed, Interrupted, LlmactorsError
from llmactors.ledger import AppendEntry, AppendOutcome, Claim, Ledger, ReleaseHow
from llmactors.messages import Failed

log = structlog.get_logger("llmactors.batcher")


@attrs.frozen
class BatcherSettings:
    """All times in seconds."""

    window_s: float = 0.02
    """How long a request may wait for others to share its static batch, where there is room beside one that runs.

    No `Batching.STATIC` backend has such room so far: what waits for one batch to end starts together anyway.
    """
    max_batch: int = 32
    """The largest static batch."""
    beat_every_s: float = 1.0
    """How often the lease is renewed; well below the ledger's `lease_s`."""
    max_unwritten: int = 65_536
    """Tokens that may wait to be written, as while the ledger is away; the backend pauses at more."""


@attrs.frozen
class Wrote:
    """The writer says: requests have ended, so there may be room."""


@attrs.frozen
class DrainBatcher:
    """Ask this to hand everything back and to claim nothing any more: the node is to end.

    Answered once no claim is left here; the requests go on elsewhere from their logs.
    """


class BatcherActor(Actor):
    """One per model. Each incarnation is a worker of its own in the ledger's eyes.

    What it holds when it ends, in whatever way, goes back to the queue; what is logged of it stays logged, and the next
    incarnation continues from there.
    """

    def __init__(
        self,
        model: str,
        *,
        backend: ActorRef,
        ledger: Ledger,
        directory: ModelDirectory,
        settings: BatcherSettings,
        metrics: BatcherMetrics,
    ) -> None:
        self._model = model
        self._backend = backend
        self._ledger = ledger
        self._directory = directory
        self._settings = settings
        self._metrics = metrics
        self._worker = ""
        self._running: dict[Key, Running] = {}
        self._former = BatchFormer(settings.window_s, settings.max_batch)
        self._capabilities: Capabilities | None = None
        self._ready_incarnation = 0
        """The backend's incarnation that takes jobs; 0 while there is none."""
        self._ended_incarnation = 0
        """The newest one known to be dead: what it said before, and is still in the mailbox, counts no more."""
        self._draining = False
        self._outbox = Outbox()
        self._unwritten = trio.Event()
        """Set while the outbox has something."""
        self._writing = False
        self._wrote = trio.Event()
        """Set, and made anew, after each write."""
        self._look = True
        """A claim may find something: not so after one that left slots empty, until anything changes."""
        self._beat_due = False
        self._wanted = trio.Event()
        """Set when the claimer has something to do."""
        self._claiming = False
        self._claimed = trio.Event()
        """Set, and made anew, when the claimer has done it."""

    def __repr__(self) -> str:
        return f"<BatcherActor {self._worker} running={len(self._running)} waiting={len(self._former)}>"

    async def on_start(self, context: Context) -> None:
        self._ref = context.ref
        await self._join()
        context.watch(self._backend)
        self._backend.tell_nowait(Hello())
        context.spawn(self._write_for_ever)
        context.spawn(self._claim_for_ever)
        context.spawn(self._wake_for_work)
        context.spawn(self._wake_for_beats)

    async def on_message(
        self, message: Wrote | DrainBatcher | Produced | BackendReady | BackendStalled | BackendEnding
    ) -> None:
        if self._draining:
            return  # nothing is held here, and nothing will be
        match message:
            case DrainBatcher():
                await self._drain()
                return
            case Wrote():
                self._look = True
            case Produced():
                await self._take_in(message)
            case _ if message.incarnation <= self._ended_incarnation:
                return  # its `Down` went ahead of what it had said before
            case BackendReady():
                self._ready_incarnation = message.incarnation
                self._capabilities = message.capabilities
                self._say(ModelState.READY)
            case BackendStalled():
                self._say(ModelState.STALLED, f"no output for {message.seconds:.1f} s")
            case BackendEnding():
                await self._spare(message)
        await self._start_batch()
        if self._look and self._room() > 0:
            self._wanted.set()
        self._directory.running[self._model] = len(self._running)

    async def on_down(self, down: Down) -> None:
        """The backend died: everything in it goes back, to continue from its log once a backend is up again."""
        if down.incarnation <= self._ended_incarnation:
            return
        self._ended_incarnation = down.incarnation
        self._ready_incarnation = 0
        self._say(ModelState.DOWN, str(down.exit))
        self._metrics.worker_error()
        # Who was in a backend that was merely stopped did nothing to it.
        how = ReleaseHow.FAILED if down.exit.kind is ExitKind.CRASHED else ReleaseHow.SILENT
        await self._wait_written()
        await self._release_waiting()
        await self._release([*self._running], how, str(down.exit))

    async def on_stop(self) -> None:
        if self._worker and not self._draining:
            await self._ledger.leave(self._worker)

    async def _drain(self) -> None:
        """What the backend said before this message is in the log; what it says after it is not wanted."""
        self._draining = True
        while self._claiming:
            await self._claimed.wait()
        await self._wait_written()
        await self._release_waiting()
        keys = [*self._running]
        if keys and self._ready_incarnation:
            self._tell_backend(evict=tuple(keys))
        await self._release(keys, ReleaseHow.SILENT)
        self._directory.running[self._model] = 0
        await self._ledger.leave(self._worker)

    async def _join(self) -> None:
        """Becomes a new worker in the ledger's eyes."""
        self._worker = f"{self._model}#{self._ref.incarnation}-{secrets.token_hex(4)}"
        await self._ledger.beat(self._worker)

    # The claimer.

    async def _claim_for_ever(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            if self._draining:
                continue
            self._claiming = True
            if self._beat_due:
                self._beat_due, self._look = False, True
                await self._sync()
            if self._look and (room := self._room()) > 0:
                self._look = False
                incarnation = self._ready_incarnation
                claims = await self._claim(room)
                if incarnation == self._ready_incarnation:
                    await self._begin(claims)
                else:
                    # Another backend may have other room.
                    await self._hand_back([(claim.request.id, claim.epoch) for claim in claims], ReleaseHow.SILENT)
            self._directory.running[self._model] = len(self._running)
            self._claiming = False
            self._claimed.set()
            self._claimed = trio.Event()

    async def _wake_for_work(self) -> None:
        """One look after the other: a ledger may have news all the time, as for a lost lease."""
        while True:
            await self._ledger.wait_work(self._worker, self._model)
            self._wake()
            await self._claimed.wait()

    async def _wake_for_beats(self) -> None:
        while True:
            await trio.sleep(self._settings.beat_every_s)
            self._wake()

    def _wake(self) -> None:
        """There may be something to claim, or somebody to stop."""
        self._beat_due = True
        self._wanted.set()

    async def _sync(self) -> None:
        """Renews the lease and drops what is no longer wanted."""
        beat = await self._ledger.beat(self._worker)
        if beat.live:
            self._drop(beat.stop)
        else:
            log.warning("lease lost", worker=self._worker, running=len(self._running))
            self._drop([*self._running])
            self._former.clear()
            self._look = True
            await self._join()

    def _room(self) -> int:
        """How many may be claimed. A static batch runs alone: nothing is claimed for its backend while it does."""
        capabilities = self._capabilities
        if capabilities is None or not self._ready_incarnation:
            return 0
        if capabilities.batching is Batching.STATIC:
            return 0 if self._running else capabilities.slots - len(self._former)
        return capabilities.slots - len(self._running)

    async def _claim(self, free: int) -> list[Claim]:
        """Up to `free` requests that this backend can begin or continue; those that it cannot continue end here."""
        claims: list[Claim] = []
        capabilities = self._capabilities
        assert capabilities is not None  # noqa: S101 - there was room
        while free > len(claims):
            got = await self._ledger.claim(self._worker, self._model, free - len(claims))
            lost = [(claim, error) for claim in got if (error := _why_not(capabilities, claim)) is not None]
            if not lost:
                claims += got
                break
            hopeless = {claim.request.id for claim, _ in lost}
            claims += [claim for claim in got if claim.request.id not in hopeless]
            for claim, error in lost:
                await self._ledger.finish(claim.request.id, claim.epoch, Failed(error.code, error.message))
        return claims

    async def _begin(self, claims: list[Claim]) -> None:
        """Gives what was claimed to the backend, or to the window of static batches."""
        if self._capabilities is not None and self._capabilities.batching is Batching.STATIC:
            now = trio.current_time()
            for claim in claims:
                self._former.add(claim, now)
            await self._start_batch()
        else:
            await self._start(claims)

    async def _start_batch(self) -> None:
        """The next static batch, if it is due."""
        if self._former and self._capabilities is not None and self._ready_incarnation and not self._running:
            batch = self._former.next_batch(trio.current_time(), idle=True, free=self._capabilities.slots)
            await self._start([item.claim for item in batch])

    async def _start(self, claims: list[Claim]) -> None:
        """Gives these to the backend. Hands them back if it takes nothing any more."""
        if not claims:
            return
        started = [Running(claim) for claim in claims]
        self._running.update((running.key, running) for running in started)
        if self._tell_backend(admit=tuple(Job(each.key, each.claim.request, each.claim.tokens) for each in started)):
            self._metrics.batch(len(claims), [claim.waited_s for claim in claims])
        else:
            await self._release([running.key for running in started], ReleaseHow.SILENT)

    # What goes back.

    async def _spare(self, ending: BackendEnding) -> None:
        """Takes back at once what the backend never touched; what it did waits for the cause of death."""
        self._ready_incarnation = 0
        self._say(ModelState.DOWN, "its backend is ending")
        await self._wait_written()
        await self._release_waiting()
        await self._release([key for key in self._running if key not in ending.begun], ReleaseHow.SILENT)

    async def _release_waiting(self) -> None:
        await self._hand_back([(claim.request.id, claim.epoch) for claim in self._former.clear()], ReleaseHow.SILENT)

    async def _release(self, keys: Iterable[Key], how: ReleaseHow, cause: str = "") -> None:
        """Hands claims back that no backend holds any more."""
        await self._hand_back([key for key in keys if self._forget(key)], how, cause)

    async def _hand_back(self, keys: Iterable[Key], how: ReleaseHow, cause: str = "") -> None:
        self._look = True
        async with trio.open_nursery() as nursery:  # all at once: somebody else should go on with them at once
            for key in keys:
                nursery.start_soon(self._ledger.release, *key, how, cause)

    # What the backend makes.

    async def _take_in(self, produced: Produced) -> None:
        """Puts outputs where the writer takes them from."""
        tokens = 0
        stepped: set[Running] = set()
        for output in produced.outputs:
            running = self._running.get(output.key)
            if running is None:
                continue  # evicted, or of an epoch that ended with an earlier backend
            running.produced(output)
            added = len(output.deltas)
            tokens += added
            stepped.add(running)
            self._outbox.put(running, added)
        if stepped:
            self._metrics.step(len(stepped), tokens)
        for key, error in produced.failed:
            if (running := self._running.get(key)) is not None:
                self._metrics.worker_error()
                running.end = Failed(error.code if error.code in STREAM_CODES else BackendFailed.code, error.message)
                self._outbox.put(running, 0)
        if self._outbox:
            self._unwritten.set()
        while self._outbox.tokens > self._settings.max_unwritten:
            await self._wrote.wait()

    # The writer.

    async def _write_for_ever(self) -> None:
        while True:
            await self._unwritten.wait()
            self._unwritten = trio.Event()
            self._writing = True
            ended = await self._append(self._outbox.take())
            self._writing = False
            self._wrote.set()
            self._wrote = trio.Event()
            if ended:
                with contextlib.suppress(MailboxFull):  # then other messages wait, which look for room as well
                    self._ref.tell_nowait(Wrote())

    async def _wait_written(self) -> None:
        """Until all that was made so far is in the log."""
        while self._writing or self._outbox:
            await self._wrote.wait()

    async def _append(self, entries: list[AppendEntry], *, again: bool = False) -> bool:
        """Appends; where the log has lost its suffix, once more from where it ends. Whether anything ended."""
        if not entries:
            return False
        results = await self._ledger.append(entries)
        gaps: list[AppendEntry] = []
        unwanted: list[Key] = []
        ended = False
        for entry, result in zip(entries, results, strict=True):
            if result.outcome is AppendOutcome.OK and entry.end is None:
                continue
            key = entry.request_id, entry.epoch
            if result.outcome is AppendOutcome.GAP:
                if (running := self._running.get(key)) is not None:
                    deltas = running.deltas[result.next_seq - 1 : entry.first_seq - 1 + len(entry.deltas)]
                    gaps.append(msgspec.structs.replace(entry, first_seq=result.next_seq, deltas=deltas))
            elif entry.end is not None:
                ended = self._running.pop(key, None) is not None or ended  # the backend has let go of it already
            else:
                unwanted.append(key)
        self._drop(unwanted)
        if gaps and not again:
            return await self._append(gaps, again=True) or ended or bool(unwanted)
        for entry in gaps:
            # The log of these cannot be mended from here. Who claims them next continues from what is left of it.
            key = entry.request_id, entry.epoch
            self._drop([key])
            await self._ledger.release(*key, ReleaseHow.FAILED, "its log lost its end again and again")
        return ended or bool(unwanted)

    def _drop(self, keys: Sequence[Key]) -> None:
        """Frees the slots of requests that nobody wants from here any more."""
        if keys:
            self._former.drop(frozenset(keys))
            evict = tuple(key for key in keys if self._forget(key))
            if evict and self._ready_incarnation:
                self._tell_backend(evict=evict)

    def _forget(self, key: Key) -> bool:
        """Whether it ran here."""
        running = self._running.pop(key, None)
        if running is not None:
            self._outbox.drop(running)
        return running is not None

    def _tell_backend(self, *, admit: tuple[Job, ...] = (), evict: tuple[Key, ...] = ()) -> bool:
        """False where nobody empties the backend's mailbox: it is ending, and will say so, or be said to be dead."""
        try:
            self._backend.tell_nowait(Assign(admit, evict), incarnation=self._ready_incarnation)
        except MailboxFull:
            self._ready_incarnation = 0
            return False
        return True

    def _say(self, state: ModelState, detail: str = "") -> None:
        status = self._directory.get(self._model)
        if status is None or status.state is not state:
            log.info("model state", model=self._model, state=state.value, detail=detail)
        self._directory.put(self._model, ModelStatus(state, self._capabilities, detail))


def _why_not(capabilities: Capabilities, claim: Claim) -> LlmactorsError | None:
    """Why this backend can neither begin nor continue a request; None where it can."""
    if claim.tokens and capabilities.takeover is Takeover.RESTART:
        return Interrupted("the backend was lost, and this kind of backend cannot continue an answer")
    return capabilities.refusal(claim.request)
