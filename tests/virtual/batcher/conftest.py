"""A batcher, its backend and a ledger in a small tree, with readers that check every stream."""

import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import trio

from llmactors.actors import ActorSpec, Backoff, MisuseError, SupervisorSpec, Tree
from llmactors.backends.actor import BackendActor, HealthSettings
from llmactors.backends.base import Backend
from llmactors.backends.directory import ModelDirectory, ModelState
from llmactors.backends.mock.backend import MockBackend, MockSettings
from llmactors.backends.mock.oracle import MockSequence
from llmactors.backends.mock.settings import FaultState
from llmactors.batcher.actor import BatcherActor
from llmactors.batcher.settings import BatcherSettings
from llmactors.ledger import BeatResult, Claim, LedgerSettings, MemoryLedger, SubmitOutcome
from llmactors.ledger.actor import ReaperActor
from llmactors.messages import Failed, Finished, GenerateRequest, Terminal, TokenDelta
from llmactors.telemetry import Metrics
from llmactors.telemetry.tracing.tracer import Tracer

MODEL = "m"
BATCHER = "root/batcher"
BACKEND = "root/backends/m"
QUICK = Backoff(first_s=0.05, cap_s=0.2, jitter=0.0)
GRACE_MS = 10_000_000


class Drill(Exception):
    """An injected crash."""


class CountingLedger(MemoryLedger):
    """Counts how often workers beat and claim."""

    beats = 0
    claims = 0

    async def beat(self, worker: str) -> BeatResult:
        self.beats += 1
        return await super().beat(worker)

    async def claim(self, worker: str, model: str, slots: int, *, hand_out: int = 0) -> list[Claim]:
        self.claims += 1
        return await super().claim(worker, model, slots, hand_out=hand_out)


class CountedMetrics(Metrics):
    """What the batcher counted, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.steps: list[tuple[int, int]] = []
        self.worker_errors = 0
        self.given_up = 0
        self.preemptions = 0

    def batch(self, size: int) -> None:
        self.batches.append(size)

    def step(self, size: int, tokens: int) -> None:
        self.steps.append((size, tokens))

    def worker_error(self) -> None:
        self.worker_errors += 1

    def preempted(self) -> None:
        self.preemptions += 1

    def request_given_up(self) -> None:
        self.given_up += 1


@attrs.define(eq=False)
class Stream:
    """One submitted request, and what a reader of its log got from the first token on."""

    request: GenerateRequest
    submitted_at: float
    tokens: list[TokenDelta] = attrs.field(factory=list)
    times: list[float] = attrs.field(factory=list)
    """When the reader got each token, on Trio's clock."""
    end: Terminal | None = None
    ended_at: float = 0.0
    done: trio.Event = attrs.field(factory=trio.Event)

    @property
    def code(self) -> str:
        """The finish reason or the error code; `open` before the end."""
        if self.end is None:
            return "open"
        return self.end.reason if isinstance(self.end, Finished) else self.end.code


class World:
    """The tree of one test.

    `mock` has the settings of the backend, `make` makes another backend instead, `ledger` is the class of the ledger.
    """

    def __init__(
        self,
        mock: MockSettings | None = None,
        *,
        make: Callable[[], Backend] | None = None,
        ledger: type[CountingLedger] = CountingLedger,
        batcher: BatcherSettings | None = None,
        health: HealthSettings | None = None,
        intensity: int = 1000,
        capacity: int = 64,
        lease_s: float = 5.0,
        preempt_after_s: float = 0.0,
        siblings: tuple[ActorSpec, ...] = (),
        tracer: Tracer | None = None,
    ) -> None:
        self.mock = mock or MockSettings()
        self.faults = FaultState()
        self.metrics = CountedMetrics()
        self.directory = ModelDirectory((MODEL,))
        ledger_settings = LedgerSettings(lease_s=lease_s, retention_s=1e6, preempt_after_s=preempt_after_s)
        self.memory = ledger(ledger_settings, wall_ms=self.wall_ms)
        self.streams: list[Stream] = []
        self.backends: list[Backend] = []
        self.batchers: list[BatcherActor] = []
        self.states: list[ModelState] = []
        self.takes_work = True
        self.is_ready_elsewhere = False

        def make_backend() -> Backend:
            backend = make() if make is not None else MockBackend(self.mock, self.faults)
            self.backends.append(backend)
            return backend

        def make_batcher() -> BatcherActor:
            actor = BatcherActor(
                MODEL,
                backend=self.backend_spec.ref,
                ledger=self.memory,
                directory=self.directory,
                settings=batcher or BatcherSettings(),
                metrics=self.metrics,
                takes_work=lambda: self.takes_work,
                is_ready_elsewhere=lambda: self.is_ready_elsewhere,
                tracer=tracer,
            )
            self.batchers.append(actor)
            return actor

        self.batcher_spec = ActorSpec("batcher", make_batcher, capacity=capacity)
        self.backend_spec = ActorSpec(
            MODEL,
            lambda: BackendActor(make_backend, self.batcher_spec.ref, health or HealthSettings()),
        )
        reaper = ActorSpec("reaper", lambda: ReaperActor(self.memory, count_given_up=self.metrics.request_given_up))
        backends = SupervisorSpec("backends", (*siblings, self.backend_spec), intensity=intensity, backoff=QUICK)
        root = SupervisorSpec("root", (reaper, backends, self.batcher_spec), intensity=1000, backoff=QUICK)
        self.tree = Tree(root, rng=random.Random(0))

    @staticmethod
    def wall_ms() -> int:
        return round(trio.current_time() * 1000)

    @property
    def batcher(self) -> BatcherActor:
        return self.batchers[-1]

    @property
    def backend(self) -> MockBackend:
        newest = self.backends[-1]
        assert isinstance(newest, MockBackend)
        return newest

    @property
    def state(self) -> ModelState:
        status = self.directory.get(MODEL)
        assert status is not None
        return status.state

    @property
    def incarnations(self) -> tuple[int, int]:
        """The incarnations of the batcher and of the backend."""
        return self.batcher_spec.ref.incarnation, self.backend_spec.ref.incarnation

    def crash(self, path: str) -> bool:
        """Crashes the actor at `path`. Returns False where the actor was down already."""
        try:
            self.tree.actor(path).crash(Drill(path))
        except MisuseError:
            return False
        return True

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the tree during the block. Then waits for all streams, checks each, and checks that nothing is left."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self.tree.run)
            await self.until(lambda: self.state is ModelState.READY)
            yield
            await self.all_ended()
            await self.check_rest()
            self.tree.stop()

    async def submit(self, prompt: str = "hi", max_tokens: int = 4, **fields: Any) -> Stream:
        """Submits a request, and starts a reader of its log."""
        usual: dict[str, Any] = {"model": MODEL, "resume_grace_ms": GRACE_MS}
        number = len(self.streams)
        request = GenerateRequest(
            f"r{number}", prompt=prompt, max_tokens=max_tokens, **usual | {"seed": number} | fields
        )
        stream = Stream(request, trio.current_time())
        self.streams.append(stream)
        assert await self.memory.submit(request) is SubmitOutcome.ACCEPTED
        await self._nursery.start(self._read, stream)
        return stream

    async def _read(self, stream: Stream, *, task_status: trio.TaskStatus[None]) -> None:
        with await self.memory.follow(stream.request.id) as follower:
            task_status.started()
            while stream.end is None:
                await follower.wait_more()
                piece = follower.take()
                stream.tokens += piece.deltas
                stream.times += [trio.current_time()] * len(piece.deltas)
                stream.end = piece.end
        stream.ended_at = trio.current_time()
        stream.done.set()

    @staticmethod
    async def until(condition: Callable[[], bool], *, every_s: float = 0.0005) -> None:
        """Returns once the condition holds."""
        with trio.fail_after(300):
            while not condition():  # noqa: ASYNC110 - it may be a condition on anything
                await trio.sleep(every_s)

    async def until_state(self, state: ModelState) -> float:
        """Waits for a state of the model, and returns when it came, exact to 0.05 s."""
        await self.until(lambda: self.state is state, every_s=0.05)
        return trio.current_time()

    async def all_ended(self, *, within_s: float = 600.0) -> None:
        with trio.move_on_after(within_s):
            for stream in self.streams:
                await stream.done.wait()
        still = [stream.request.id for stream in self.streams if stream.end is None]
        assert not still, f"never ended: {still}"

    async def check_rest(self) -> None:
        """Checks that every stream is as the oracle says, and that ledger, batcher and backend hold nothing."""
        await self.until(lambda: self.state is ModelState.READY)
        await trio.sleep(3)
        for stream in self.streams:
            await self._check_stream(stream)
        statistics = await self.memory.statistics()
        assert (statistics.queued, statistics.running, statistics.ended_total) == (0, 0, len(self.streams))
        assert self.batcher._running == {}
        assert len(self.batcher._former) == 0
        if isinstance(self.backends[-1], MockBackend):
            assert self.backend._slots == {}

    async def _check_stream(self, stream: Stream) -> None:
        request = stream.request
        sequence = MockSequence(request, eos_one_in=self.mock.eos_one_in)
        whole: list[TokenDelta] = []
        while sequence.finish is None:
            whole.append(sequence.advance())
        assert stream.tokens == whole[: len(stream.tokens)], f"{request.id} has other tokens than the oracle's"
        if stream.code in {"stop", "length"}:
            assert stream.tokens == whole, f"{request.id} is short"
            assert stream.code == sequence.finish
        if isinstance(stream.end, Finished | Failed) and stream.end.usage is not None:
            assert stream.end.usage.completion_tokens == len(stream.tokens)
        log = await self.memory.read(request.id)
        assert list(log.deltas) == stream.tokens, f"{request.id} grew after its end"
        assert log.end == stream.end


def codes(world: World) -> list[str]:
    """How all streams ended, in order of submission."""
    return [stream.code for stream in world.streams]
