"""Runs the application for each exchange of a connection, and brings it what the client sends.

Hypercorn has a queue of ten messages for that, and the news that the client is gone goes through it too: behind a body
that nobody reads it waits for ever, and so do the connection and whoever brings the news.
"""

from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog
import trio

Message = MutableMapping[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]

log = structlog.get_logger("llmactors.gateway")

CAPACITY = 10
"""Messages that wait to be received; the client is read no further meanwhile."""
LAST = frozenset({"http.disconnect", "websocket.disconnect"})


class Inbox:
    """What a client sent and the application has not received. Bounded, but for the last message, which never waits.

    Called, it is ASGI's `receive`.
    """

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._last: Message | None = None
        self._waits_for_last: trio.CancelScope | None = None
        self._room = trio.lowlevel.ParkingLot()
        self._news = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<Inbox {len(self._messages)} waiting{', closed' if self._last is not None else ''}>"

    async def put(self, message: Message) -> None:
        """Adds a message; waits for room. After the last one, and while that comes, others are dropped."""
        if message["type"] in LAST:
            if self._last is None:
                self._last = message
                if self._waits_for_last is not None:
                    self._waits_for_last.cancel(reason="the client is gone")
                self._room.unpark_all()
                self._news.unpark_all()
            return
        while len(self._messages) >= CAPACITY and self._last is None:
            await self._room.park()
        if self._last is None:
            self._messages.append(message)
            self._news.unpark()

    def cancel_at_last(self, scope: trio.CancelScope | None) -> None:
        """Cancels `scope` when the last message is here, be others before it or not. None: no longer."""
        self._waits_for_last = scope
        if scope is not None and self._last is not None:
            scope.cancel(reason="the client is gone")

    async def __call__(self) -> Message:
        """The next message; once they are used up the last one, as often as it is asked for."""
        while not self._messages:
            if self._last is not None:
                return self._last
            await self._news.park()
        self._room.unpark()
        return self._messages.popleft()


class ApplicationTasks:
    """The tasks of one connection. Hypercorn's WebSocket stream sees it as its task group."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._background: list[trio.CancelScope] = []

    async def spawn_app(
        self, app: Application, _config: object, scope: MutableMapping[str, Any], send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Message], Awaitable[None]]:
        """Runs `app` for one exchange. Returns what takes its messages."""
        return self.spawn_exchange(app, scope, send).put

    def spawn_exchange(
        self, app: Application, scope: MutableMapping[str, Any], send: Callable[[Any], Awaitable[None]]
    ) -> Inbox:
        """Runs `app` for one exchange. Returns what takes its messages."""
        inbox = Inbox()
        self._nursery.start_soon(_run, app, scope, inbox, send)
        return inbox

    def spawn(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        """Runs what has no end of its own: the pings of a WebSocket."""
        scope = trio.CancelScope()
        self._background.append(scope)
        self._nursery.start_soon(_within, scope, task, *args)

    def end_background(self) -> None:
        """The connection is over for them too."""
        for scope in self._background:
            scope.cancel(reason="the connection is over")


async def _within(scope: trio.CancelScope, task: Callable[..., Awaitable[None]], *args: object) -> None:
    with scope:
        await task(*args)


async def _run(
    app: Application, scope: MutableMapping[str, Any], inbox: Inbox, send: Callable[[Any], Awaitable[None]]
) -> None:
    try:
        await app(scope, inbox, send)
    except* Exception as group:
        # One exchange that failed must not take its gateway along.
        log.exception("exchange failed", path=scope["path"], exc_info=group)
    # So a stream hears that the application is done. Not in a `finally`: who is cancelled is cut, not answered.
    await send(None)
