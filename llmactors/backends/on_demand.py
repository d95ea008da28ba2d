"""The backend actor of a model that is loaded when the model is asked for."""

from collections.abc import Awaitable, Callable

import trio

from llmactors.actors import ActorRef, Context
from llmactors.backends.actor import BackendActor, HealthSettings
from llmactors.backends.base import Backend
from llmactors.backends.messages import Assign, BackendEnding, BackendMessage, BatcherNews, Load
from llmactors.backends.residency import Residency, ResidencyPhase


class OnDemandBackendActor(BackendActor):
    """A `BackendActor` that starts without a backend. The model pool has it load, and the batcher has it unload.

    A failed load ends the incarnation, as any crash does, and the next incarnation starts without a backend again. The
    model pool decides when the next load is tried.
    """

    def __init__(
        self,
        make: Callable[[], Backend],
        batcher: ActorRef[BatcherNews],
        health: HealthSettings,
        residency: Residency,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(make, batcher, health, prepare)
        self._residency = residency
        self._tasks: _Tasks | None = None
        """The tasks that drive and watch the backend; None while the model is not in memory."""

    async def on_start(self, context: Context) -> None:
        self._incarnation = context.incarnation
        self._context = context

    async def on_message(self, message: BackendMessage) -> None:
        if isinstance(message, Load):
            if self._residency.wanted and self._residency.phase is ResidencyPhase.UNLOADED:
                await self._load()
        elif self._tasks is None:
            if isinstance(message, Assign) and message.admit:
                await self._emit(BackendEnding(self._incarnation, frozenset()))
        elif isinstance(message, Assign) and message.unload:
            await self._unload(self._tasks)
        else:
            await super().on_message(message)

    async def on_stop(self) -> None:
        try:
            await super().on_stop()
        finally:
            self._residency.gone()

    async def _load(self) -> None:
        self._residency.load_begins()
        self._tasks = _Tasks(self._context)
        try:
            await self._open(self._tasks.spawn)
        except Exception as error:
            self._residency.load_failed(str(error) or type(error).__name__)
            raise
        self._residency.load_ended()

    async def _unload(self, tasks: "_Tasks") -> None:
        self._residency.unload_begins()
        self._tasks = self._driver = self._stalled = None
        await tasks.end()
        await self._close_backend()
        self._residency.gone()


class _Tasks:
    """Background tasks of one incarnation that can be ended before the incarnation."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._scopes: list[trio.CancelScope] = []
        self._left = 0
        self._one_ended = trio.Event()

    def spawn(self, task: Callable[..., Awaitable[object]], /, *args: object) -> None:
        scope = trio.CancelScope()
        self._scopes.append(scope)
        self._left += 1
        self._context.spawn(self._run, scope, task, *args)

    async def end(self) -> None:
        """Cancels the tasks, and returns when all of them have ended."""
        for scope in self._scopes:
            scope.cancel(reason="the model is unloaded")
        while self._left:
            await self._one_ended.wait()

    async def _run(self, scope: trio.CancelScope, task: Callable[..., Awaitable[object]], *args: object) -> None:
        try:
            with scope:
                await task(*args)
        finally:
            self._left -= 1
            self._one_ended.set()
            self._one_ended = trio.Event()
