"""The actor that owns one backend: makes the backend, drives it, watches its health, and dies with it."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

import attrs
import trio

from llmactors.actors import Actor, ActorDied, ActorRef, Context, HandlerHung, MailboxFull
from llmactors.backends.base import Backend, HasUpstreams, StepwiseBackend
from llmactors.backends.drivers import Driver, StepwiseDriver, StreamingDriver
from llmactors.backends.messages import (
    Assign,
    BackendEnding,
    BackendMessage,
    BackendReady,
    BackendStalled,
    BatcherNews,
    Produced,
)

_CHECK_SLEEPS = 10
"""In how many sleeps the time of a health check passes."""


class Spawn(Protocol):
    """Runs a task in the background."""

    def __call__(self, task: Callable[..., Awaitable[object]], /, *args: object) -> None: ...


@attrs.frozen
class HealthSettings:
    """When a backend counts as stalled, and when as hung. All times in seconds."""

    check_every_s: float = 1.0
    check_s: float = 10.0
    """How long one call of `check` may take."""
    stalled_s: float = 5.0
    """A step that takes longer makes the node not ready while the step lasts."""
    start_s: float = 600.0
    """How long the start of a backend may take. A large model on a slow disk loads for minutes."""
    hung_s: float = 60.0
    """A step that takes longer ends this incarnation of the backend, and the next one is started."""


class BackendActor(Actor[BackendMessage]):
    """Takes `Hello` and `Assign`, and tells `batcher` everything else in `messages`.

    Args:
        make: Makes the backend, once per incarnation.
        batcher: Gets the outputs, and news of the backend's state.
        health: When the backend counts as stalled or hung.
        prepare: Called before each start, for what takes as long as it takes, such as a download.
    """

    def __init__(
        self,
        make: Callable[[], Backend],
        batcher: ActorRef[BatcherNews],
        health: HealthSettings,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._make = make
        self._prepare = prepare
        self._batcher = batcher
        self._health = health
        self._backend: Backend | None = None
        self._driver: Driver | None = None
        self._incarnation = 0
        self._stalled: BackendStalled | None = None
        """The message that reported the running step, or all upstreams, as stalled; None where neither is."""

    def __repr__(self) -> str:
        return f"<BackendActor #{self._incarnation} {self._driver!r}>"

    async def on_start(self, context: Context) -> None:
        self._incarnation = context.incarnation
        await self._open(context.spawn)

    async def _open(self, spawn: Spawn) -> None:
        """Makes and starts the backend, and tells the batcher. `spawn` runs the tasks that drive and watch it."""
        if self._prepare is not None:
            await self._prepare()
        backend = self._backend = self._make()
        try:
            with trio.fail_after(self._health.start_s):
                await backend.start()
        except trio.TooSlowError as error:
            raise HandlerHung(f"the start of the backend took longer than {self._health.start_s:g} s") from error
        if isinstance(backend, StepwiseBackend):
            driver: Driver = StepwiseDriver(backend, self._emit)
        else:
            driver = StreamingDriver(backend, self._emit)
        self._driver = driver
        spawn(driver.run)
        if isinstance(backend, StepwiseBackend):
            spawn(self._watch_steps, driver)
        spawn(self._watch_health, backend, driver)
        await self._say_ready()

    async def on_message(self, message: BackendMessage) -> None:
        assert self._driver is not None  # noqa: S101 - on_start has returned
        if isinstance(message, Assign):
            self._driver.assign(message.admit, message.evict)
        else:
            self._driver.reset()
            await self._say_ready()
            if self._stalled is not None:
                await self._emit(self._stalled)

    async def on_stop(self) -> None:
        # The driver has a method of this actor, and only the garbage collector could free both, with the backend.
        driver, self._driver = self._driver, None
        try:
            if driver is not None:
                self._say_ending(driver)
        finally:
            await self._close_backend()

    async def _close_backend(self) -> None:
        backend, self._backend = self._backend, None
        if backend is not None:
            await backend.close()

    def _say_ending(self, driver: Driver) -> None:
        """Tells the batcher before `close`, which may take seconds, so that no job is sent here in that time."""
        if self._batcher.running:
            with contextlib.suppress(MailboxFull, ActorDied):  # the batcher gets a `Down` in any case
                self._batcher.tell_nowait(BackendEnding(self._incarnation, driver.begun))

    async def _say_ready(self) -> None:
        assert self._backend is not None  # noqa: S101 - on_start has made it
        await self._emit(BackendReady(self._incarnation, self._backend.capabilities))

    async def _emit(self, message: Produced | BackendReady | BackendStalled | BackendEnding) -> None:
        try:
            await self._batcher.tell(message)
        except ActorDied:
            # The batcher has ended for good: this node shuts down, and the ledger gives unfinished requests to others.
            await trio.sleep_forever()

    async def _watch_health(self, backend: Backend, driver: Driver) -> None:
        while True:
            await trio.sleep(self._health.check_every_s)
            async with driver.between_steps:
                await self._check(backend)
            if isinstance(backend, HasUpstreams):
                await self._show_trouble(backend)

    async def _check(self, backend: Backend) -> None:
        """Raises what the check raises, and `HandlerHung` where the check takes too long."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._limit_check)
            await backend.check()
            nursery.cancel_scope.cancel(reason="the check has ended")

    async def _limit_check(self) -> None:
        # One sleep of the whole time would end a check that ran while this process was stopped.
        for _ in range(_CHECK_SLEEPS):
            await trio.sleep(self._health.check_s / _CHECK_SLEEPS)
        raise HandlerHung("the backend's health check took too long")

    async def _show_trouble(self, backend: HasUpstreams) -> None:
        """Reports the model as stalled while no upstream gets requests."""
        troubles = [state.trouble for state in backend.upstreams()]
        if troubles and all(troubles):
            stalled = BackendStalled(self._incarnation, f"(no upstream gets requests: {'; '.join(troubles)})")
            if stalled != self._stalled:
                self._stalled = stalled
                await self._emit(stalled)
        elif self._stalled is not None:
            self._stalled = None
            await self._say_ready()

    async def _watch_steps(self, driver: Driver) -> None:
        every_s = min(self._health.stalled_s, self._health.hung_s) / 4
        step: float | None = None
        busy_s, looked_at = 0.0, trio.current_time()
        while True:
            now, since = trio.current_time(), driver.busy_since
            # If this look comes late, the loop was late or the process was stopped: that time does not count as time of
            # the step.
            passed_s = min(now - looked_at, 2 * every_s)
            busy_s = 0.0 if since is None else min(now - since, (busy_s if since == step else 0.0) + passed_s)
            step, looked_at = since, now
            if busy_s >= self._health.hung_s:
                raise HandlerHung(f"one step took longer than {self._health.hung_s:g} s")
            if self._stalled is None and busy_s >= self._health.stalled_s:
                self._stalled = BackendStalled(self._incarnation, f"no output for {busy_s:.1f} s")
                await self._emit(self._stalled)
            elif self._stalled is not None and busy_s < self._health.stalled_s:
                self._stalled = None
                await self._say_ready()
            await trio.sleep(every_s)
