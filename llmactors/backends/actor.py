"""The actor that owns one backend: makes it, drives it, watches its health, and dies with it."""

from collections.abc import Callable

import attrs
import trio

from llmactors.actors import Actor, ActorRef, Context
from llmactors.backends.base import Backend, StepwiseBackend
from llmactors.backends.drivers import Driver, StepwiseDriver, StreamingDriver
from llmactors.backends.messages import Assign, BackendReady, BackendStalled, Hello, Produced
from llmactors.errors import ActorDied, HandlerHung


@attrs.frozen
class HealthSettings:
    """When a backend counts as stalled, and when as hung. All in seconds."""

    check_every_s: float = 1.0
    check_s: float = 10.0
    """How long one `Backend.check` may take."""
    stalled_s: float = 5.0
    """A step that takes longer is reported: the node is not ready meanwhile."""
    hung_s: float = 60.0
    """A step that takes longer is a hang: the backend crashes and is made anew."""


class BackendActor(Actor):
    """Takes `Hello` and `Assign`; tells `sink`, the batcher, the rest."""

    def __init__(self, make: Callable[[], Backend], sink: ActorRef, health: HealthSettings) -> None:
        self._make = make
        self._sink = sink
        self._health = health
        self._backend: Backend | None = None

    async def on_start(self, context: Context) -> None:
        self._incarnation = context.incarnation
        backend = self._backend = self._make()
        await backend.start()
        if isinstance(backend, StepwiseBackend):
            driver: Driver = StepwiseDriver(backend, self._emit)
        else:
            driver = StreamingDriver(backend, self._emit)
        self._driver = driver
        context.spawn(driver.run)
        context.spawn(self._watch_steps)
        context.spawn(self._watch_health, backend)
        await self._emit(BackendReady(self._incarnation, backend.capabilities))

    async def on_message(self, message: Hello | Assign) -> None:
        if isinstance(message, Assign):
            self._driver.assign(message.admit, message.evict)
        else:
            self._driver.reset()
            assert self._backend is not None  # noqa: S101 - on_start has returned
            await self._emit(BackendReady(self._incarnation, self._backend.capabilities))

    async def on_stop(self) -> None:
        if self._backend is not None:
            await self._backend.close()

    async def _emit(self, message: Produced | BackendReady | BackendStalled) -> None:
        try:
            await self._sink.tell(message)
        except ActorDied:
            # The batcher has ended for good: this node is shutting down, and its ledger knows what was not finished.
            await trio.sleep_forever()

    async def _watch_health(self, backend: Backend) -> None:
        while True:
            await trio.sleep(self._health.check_every_s)
            try:
                with trio.fail_after(self._health.check_s):
                    await backend.check()
            except trio.TooSlowError as error:
                raise HandlerHung("the backend's health check took too long") from error

    async def _watch_steps(self) -> None:
        stalled = False
        while True:
            since = self._driver.busy_since
            busy_s = 0.0 if since is None else trio.current_time() - since
            if busy_s >= self._health.hung_s:
                raise HandlerHung(f"one step took longer than {self._health.hung_s:g} s")
            if not stalled and busy_s >= self._health.stalled_s:
                stalled = True
                await self._emit(BackendStalled(self._incarnation, busy_s))
            elif stalled and busy_s < self._health.stalled_s and self._backend is not None:
                stalled = False
                await self._emit(BackendReady(self._incarnation, self._backend.capabilities))
            await trio.sleep(min(self._health.stalled_s, self._health.hung_s) / 4)
