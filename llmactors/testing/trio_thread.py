"""A Trio event loop in a thread, for synchronous test code that calls asynchronous functions one by one."""

import threading
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Self, TypeVar

import trio

T = TypeVar("T")


class TrioThread:
    """A thread with an event loop. Coroutines run in it one after another, and services run between them too.

    `clock` is the clock of the event loop; None for the system's.
    """

    def __init__(self, clock: trio.abc.Clock | None = None) -> None:
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=partial(trio.run, self._main, clock=clock), daemon=True)

    def __repr__(self) -> str:
        return f"<TrioThread {self._thread.name}>"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._nursery is not None  # noqa: S101 - it was entered
        scope = self._nursery.cancel_scope
        trio.from_thread.run_sync(
            lambda: scope.cancel(reason="the thread is not needed any more"), trio_token=self._token
        )
        self._thread.join()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end, and returns its result."""

        async def awaited() -> T:
            return await coroutine

        return trio.from_thread.run(awaited, trio_token=self._token)

    def serve(self, service: Callable[..., Awaitable[object]]) -> None:
        """Starts a service, a function that takes `task_status`, and waits until the service is ready."""

        async def start() -> None:
            assert self._nursery is not None  # noqa: S101 - it was entered
            await self._nursery.start(service)

        self.run(start())

    async def _main(self) -> None:
        async with trio.open_nursery() as self._nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._ready.set()
            await trio.sleep_forever()
