"""The batcher: claims requests for free slots, drives one backend with them, writes what comes out to the ledger."""

import secrets
from collections.abc import Sequence

import attrs
import structlog
import trio

from llmactors.actors import Actor, ActorRef, Context, Down
from llmactors.backends.base import Batching, Capabilities, Job, Output, Takeover
from llmactors.backends.directory import ModelDirectory, ModelState, ModelStatus
from llmactors.backends.messages import Assign, BackendReady, BackendStalled, Hello, Key, Produced
from llmactors.batcher.forming import BatchFormer
from llmactors.batcher.metrics import BatcherMetrics
from llmactors.errors import STREAM_CODES, BackendFailed, Interrupted
from llmactors.ledger import AppendEntry, AppendOutcome, AppendResult, Claim, Ledger, ReleaseHow
from llmactors.messages import Failed, Finished, TokenDelta, Usage

log = structlog.get_logger("llmactors.batcher")


@attrs.frozen
class BatcherSettings:
    """All times in seconds."""

    window_s: float = 0.02
    """How long a request for a static backend may wait for others to share its batch."""
    max_batch: int = 32
    """The largest static batch."""
    beat_every_s: float = 1.0
    """How often the lease is renewed; well below the ledger's `lease_s`."""


@attrs.frozen
class Wake:
    """There may be something to claim, or somebody to stop."""


@attrs.define(eq=False)
class _Running:
    """One claimed request, and every token of it that this batcher knows."""

    claim: Claim
    deltas: list[TokenDelta]

    @property
    def key(self) -> Key:
        return self.claim.request.id, self.claim.epoch


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
        self._running: dict[Key, _Running] = {}
        self._former = BatchFormer(settings.window_s, settings.max_batch)
        self._capabilities: Capabilities | None = None
        self._ready_incarnation = 0
        self._wake_told = False
        self._window_open = False

    def __repr__(self) -> str:
        return f"<BatcherActor {self._worker} running={len(self._running)} waiting={len(self._former)}>"

    async def on_start(self, context: Context) -> None:
        self._context = context
        self._ref = context.ref
        await self._join()
        context.watch(self._backend)
        self._backend.tell_nowait(Hello())
        context.spawn(self._wake_for_work)
        context.spawn(self._wake_for_beats)

    async def on_message(self, message: Wake | Produced | BackendReady | BackendStalled) -> None:
        match message:
            case Produced():
                await self._write(message)
                await self._fill()
            case Wake():
                self._wake_told = False
                await self._sync()
                await self._fill()
            case BackendReady():
                self._ready_incarnation = message.incarnation
                self._capabilities = message.capabilities
                self._say(ModelState.READY)
                await self._fill()
            case BackendStalled():
                self._say(ModelState.STALLED, f"no output for {message.seconds:.1f} s")

    async def on_down(self, down: Down) -> None:
        """The backend died: everything in it goes back, to continue from its log once a backend is up again."""
        if down.incarnation < self._ready_incarnation:
            return
        self._ready_incarnation = 0
        self._say(ModelState.DOWN, str(down.exit))
        self._metrics.worker_error()
        waiting = self._former.clear()
        lost, self._running = self._running, {}
        for claim in waiting:
            await self._ledger.release(claim.request.id, claim.epoch, ReleaseHow.SILENT)
        for request_id, epoch in lost:
            await self._ledger.release(request_id, epoch, ReleaseHow.FAILED, str(down.exit))

    async def on_stop(self) -> None:
        if self._worker:
            await self._ledger.leave(self._worker)

    async def _join(self) -> None:
        """Becomes a new worker in the ledger's eyes."""
        self._worker = f"{self._model}#{self._ref.incarnation}-{secrets.token_hex(4)}"
        await self._ledger.beat(self._worker)

    async def _wake_for_work(self) -> None:
        while True:
            await self._ledger.wait_work(self._worker, self._model)
            if not self._wake_told:
                self._wake_told = True
                await self._ref.tell(Wake())

    async def _wake_for_beats(self) -> None:
        while True:
            await trio.sleep(self._settings.beat_every_s)
            await self._ref.tell(Wake())

    async def _wake_for_window(self) -> None:
        await trio.sleep_until(self._former.next_due())
        self._window_open = False
        await self._ref.tell(Wake())

    async def _sync(self) -> None:
        """Renews the lease and drops what is no longer wanted."""
        beat = await self._ledger.beat(self._worker)
        if not beat.live:
            log.warning("lease lost", worker=self._worker, running=len(self._running))
            self._drop([*self._running])
            self._former.clear()
            await self._join()
        else:
            self._drop(beat.stop)

    async def _fill(self) -> None:
        """Gives every free slot a request."""
        capabilities = self._capabilities
        if capabilities is None or not self._ready_incarnation:
            return
        free = capabilities.slots - len(self._running) - len(self._former)
        claims = await self._ledger.claim(self._worker, self._model, free) if free > 0 else []
        if capabilities.batching is Batching.STATIC:
            claims = self._form(claims, capabilities.slots)
        jobs: list[Job] = []
        waits_s: list[float] = []
        for claim in claims:
            if claim.tokens and capabilities.takeover is Takeover.RESTART:
                error = Interrupted("the backend was lost, and this kind of backend cannot continue an answer")
                await self._ledger.finish(claim.request.id, claim.epoch, Failed(error.code, error.message))
                continue
            running = _Running(claim, list(claim.tokens))
            self._running[running.key] = running
            jobs.append(Job(running.key, claim.request, claim.tokens))
            waits_s.append(claim.waited_s)
        if jobs:
            self._metrics.batch(len(jobs), waits_s)
            self._backend.tell_nowait(Assign(admit=tuple(jobs)), incarnation=self._ready_incarnation)

    def _form(self, claims: list[Claim], slots: int) -> list[Claim]:
        """Passes the claims through the window of a static batch."""
        now = trio.current_time()
        for claim in claims:
            self._former.add(claim, now)
        batch = self._former.next_batch(now, idle=not self._running, free=slots - len(self._running))
        if len(self._former) and not self._window_open and now < self._former.next_due():
            # Past its window a batch waits for free slots, and those come with an output, not with time.
            self._window_open = True
            self._context.spawn(self._wake_for_window)
        return [item.claim for item in batch]

    async def _write(self, produced: Produced) -> None:
        """Puts outputs into the log: one append, and so one trip to the ledger, for a whole step."""
        written: list[_Running] = []
        entries: list[AppendEntry] = []
        tokens = 0
        for output in produced.outputs:
            running = self._running.get(output.key)
            if running is None:
                continue  # evicted, or of an epoch that ended with an earlier backend
            tokens += len(output.deltas)
            written.append(running)
            entries.append(self._entry(running, output))
        if entries:
            self._metrics.step(len(entries), tokens)
            self._settle(written, entries, await self._append(written, entries))
        for key, error in produced.failed:
            if self._running.pop(key, None) is not None:
                self._metrics.worker_error()
                code = error.code if error.code in STREAM_CODES else BackendFailed.code
                await self._ledger.finish(*key, Failed(code, error.message))

    @staticmethod
    def _entry(running: _Running, output: Output) -> AppendEntry:
        first_seq = len(running.deltas) + 1
        running.deltas.extend(output.deltas)
        end = None
        if output.finish is not None:
            end = Finished(output.finish, Usage(output.prompt_tokens, len(running.deltas)))
        return AppendEntry(*running.key, first_seq, output.deltas, end)

    async def _append(self, written: list[_Running], entries: list[AppendEntry]) -> Sequence[AppendResult]:
        """Appends; where the log has lost its suffix, once more from where it ends."""
        results = list(await self._ledger.append(entries))
        gaps = [index for index, result in enumerate(results) if result.outcome is AppendOutcome.GAP]
        if gaps:
            again = [
                attrs.evolve(
                    entries[index],
                    first_seq=results[index].next_seq,
                    deltas=written[index].deltas[results[index].next_seq - 1 :],
                )
                for index in gaps
            ]
            for index, result in zip(gaps, await self._ledger.append(again), strict=True):
                results[index] = result
        return results

    def _settle(self, written: list[_Running], entries: list[AppendEntry], results: Sequence[AppendResult]) -> None:
        unwanted: list[Key] = []
        for running, entry, result in zip(written, entries, results, strict=True):
            if entry.end is not None:
                self._running.pop(running.key, None)  # the backend has let go of it already
            elif result.outcome is not AppendOutcome.OK:
                unwanted.append(running.key)
        self._drop(unwanted)

    def _drop(self, keys: Sequence[Key]) -> None:
        """Frees the slots of requests that nobody wants from here any more."""
        evict = tuple(key for key in keys if self._running.pop(key, None) is not None)
        self._former.drop(frozenset(keys))
        if evict and self._ready_incarnation:
            self._backend.tell_nowait(Assign(evict=evict), incarnation=self._ready_incarnation)

    def _say(self, state: ModelState, detail: str = "") -> None:
        status = self._directory.get(self._model)
        if status is None or status.state is not state:
            log.info("model state", model=self._model, state=state.value, detail=detail)
        self._directory.put(self._model, ModelStatus(state, self._capabilities, detail))
