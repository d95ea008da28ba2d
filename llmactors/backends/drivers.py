"""The loops that drive a backend and report its outputs as `Produced` messages: one loop per kind of backend."""

import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import trio

from llmactors.backends.base import Job, OffersOutputs, Output, StepwiseBackend, StreamingBackend
from llmactors.backends.messages import Key, Produced
from llmactors.errors import BackendFailed, LlmactorsError

Emit = Callable[[Produced], Awaitable[None]]
MAX_WAITING = 1024
BEGUN_PER_PASS = 16
"""How many jobs begin in one pass of the scheduler: to begin 60 at once would delay the tokens of others by 20 ms."""


class Driver(Protocol):
    """The loop of one backend, as the backend actor uses it."""

    @property
    def busy_since(self) -> float | None:
        """When the call of the backend that still runs began, on Trio's clock. None while no call runs."""
        ...

    @property
    def begun(self) -> frozenset[Key]:
        """The jobs that the backend has begun and not ended."""
        ...

    @property
    def between_steps(self) -> AbstractAsyncContextManager[Any]:
        """While this is entered, no step of a stepwise backend begins. A streaming backend needs no such pause."""
        ...

    def assign(self, admit: tuple[Job, ...], evict: tuple[Key, ...]) -> None:
        """Adds jobs and drops others, with effect at the next step. Never waits."""
        ...

    def reset(self) -> None:
        """Drops all jobs."""
        ...

    async def run(self) -> None:
        """Drives the backend for ever. Raises whatever the backend raises."""
        ...


class StepwiseDriver:
    """Drives a stepwise backend: admits and evicts between the steps."""

    def __init__(self, backend: StepwiseBackend, emit: Emit) -> None:
        self._backend = backend
        self._emit = emit
        self._admit: dict[Key, Job] = {}
        self._evict: list[Key] = []
        self._active: set[Key] = set()
        self._wake = trio.Event()
        self._busy_since: float | None = None
        self._turn = trio.Lock()

    def __repr__(self) -> str:
        return f"<StepwiseDriver active={len(self._active)} waiting={len(self._admit)}>"

    @property
    def busy_since(self) -> float | None:
        return self._busy_since

    @property
    def begun(self) -> frozenset[Key]:
        return frozenset(self._active)

    @property
    def between_steps(self) -> AbstractAsyncContextManager[Any]:
        return self._turn

    def assign(self, admit: tuple[Job, ...], evict: tuple[Key, ...]) -> None:
        for key in evict:
            if self._admit.pop(key, None) is None:
                self._evict.append(key)
        for job in admit:
            self._admit[job.key] = job
        self._wake.set()

    def reset(self) -> None:
        self._admit.clear()
        self._evict.extend(self._active)
        self._wake.set()

    async def run(self) -> None:
        while True:
            if not (self._active or self._admit or self._evict):
                self._wake = trio.Event()
                await self._wake.wait()
            try:
                self._turn.acquire_nowait()  # mostly the lock is free, and a step has a checkpoint of its own
            except trio.WouldBlock:
                await self._turn.acquire()
            try:
                failed = await self._apply()
                outputs = await self._step() if self._active else []
            finally:
                self._turn.release()
            if outputs or failed:
                await self._emit(Produced(tuple(outputs), tuple(failed)))

    async def _apply(self) -> list[tuple[Key, LlmactorsError]]:
        """Evicts and admits, also what is assigned during an admission. Evictions go first, so that a slot is free."""
        failed: list[tuple[Key, LlmactorsError]] = []
        while True:
            self._apply_evictions()
            if not self._admit:
                return failed
            key = next(iter(self._admit))
            job = self._admit.pop(key)
            self._active.add(key)
            self._busy_since = trio.current_time()
            try:
                await self._backend.admit(job)
            except LlmactorsError as error:
                self._active.discard(key)
                failed.append((key, error))
            self._busy_since = None

    def _apply_evictions(self) -> None:
        evict, self._evict = self._evict, []
        for key in evict:
            if key in self._active:
                self._active.discard(key)
                self._backend.evict(key)

    async def _step(self) -> list[Output]:
        self._busy_since = trio.current_time()
        outputs = await self._backend.step()
        self._busy_since = None
        for output in outputs:
            if output.finish is not None:
                self._active.discard(output.key)
        return outputs


class StreamingDriver:
    """Drives a streaming backend with one task per job. Outputs of one scheduler pass go out as one message.

    While the batcher takes no message, at most `MAX_WAITING` outputs wait here; then the backend waits too.
    """

    def __init__(self, backend: StreamingBackend, emit: Emit) -> None:
        self._backend = backend
        self._emit = emit
        if isinstance(backend, OffersOutputs):
            backend.offer_outputs(self._offer)
        self._jobs: dict[Key, trio.CancelScope] = {}
        self._admit: list[Job] = []
        self._outputs: list[Output] = []
        self._failed: list[tuple[Key, LlmactorsError]] = []
        self._wake = trio.Event()
        self._waiting_for_room = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<StreamingDriver active={len(self._jobs)}>"

    @property
    def busy_since(self) -> float | None:
        """Always None: the `check` of a streaming backend finds late answers."""
        return None

    @property
    def begun(self) -> frozenset[Key]:
        return frozenset(self._jobs) - {job.key for job in self._admit}

    @property
    def between_steps(self) -> AbstractAsyncContextManager[Any]:
        return contextlib.nullcontext()

    def assign(self, admit: tuple[Job, ...], evict: tuple[Key, ...]) -> None:
        for key in evict:
            self._drop(key)
        for job in admit:
            self._jobs[job.key] = trio.CancelScope()
            self._admit.append(job)
        self._wake.set()

    def reset(self) -> None:
        for key in list(self._jobs):
            self._drop(key)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                admit, self._admit = self._admit[:BEGUN_PER_PASS], self._admit[BEGUN_PER_PASS:]
                if self._admit:
                    self._wake.set()
                for job in admit:
                    scope = self._jobs.get(job.key)
                    if scope is not None:
                        nursery.start_soon(self._run_job, job, scope)
                if self._outputs or self._failed:
                    produced = Produced(tuple(self._outputs), tuple(self._failed))
                    self._outputs, self._failed = [], []
                    if self._waiting_for_room:
                        self._waiting_for_room.unpark_all()
                    await self._emit(produced)

    async def _run_job(self, job: Job, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await self._pass_on(job)
            except LlmactorsError as error:
                self._failed.append((job.key, error))
                self._wake.set()
        if self._jobs.get(job.key) is scope:
            del self._jobs[job.key]

    async def _pass_on(self, job: Job) -> None:
        async with contextlib.aclosing(self._backend.generate(job)) as outputs:
            async for output in outputs:
                while not self._offer(output):
                    await self._waiting_for_room.park()
                if output.finish is not None:
                    return
        raise BackendFailed("the backend stopped in the middle of the answer")

    def _offer(self, output: Output) -> bool:
        """Takes an output, unless too many wait."""
        if len(self._outputs) >= MAX_WAITING:
            return False
        self._outputs.append(output)
        self._wake.set()
        return True

    def _drop(self, key: Key) -> None:
        scope = self._jobs.pop(key, None)
        if scope is not None:
            scope.cancel(reason="the sequence was evicted")
