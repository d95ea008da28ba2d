"""The messages from a client to its ASGI application, and the tasks that run the application.

Hypercorn has a plain queue of ten messages, and the disconnect goes through that queue too. Behind a body that the
application does not read, a disconnect would wait for ever, and with it the connection. Here a disconnect never waits.
"""

from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog
import trio

from llmactors.actors import fatal

Message = MutableMapping[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]

log = structlog.get_logger("llmactors.http")

CAPACITY = 10
"""The number of messages that may wait. While so many wait, nothing more is read from the client."""
_DISCONNECTS = frozenset({"http.disconnect", "websocket.disconnect"})


class Inbox:
    """The messages that the application has not received yet.

    The number of messages is bounded. The disconnect, which is the last message, never waits for room. An inbox is
    callable: a call is ASGI's `receive`.
    """

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._last: Message | None = None
        self._waits_for_last: trio.CancelScope | None = None
        self._room = trio.lowlevel.ParkingLot()
        self._arrivals = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<Inbox {len(self._messages)} waiting{', closed' if self._last is not None else ''}>"

    async def put(self, message: Message) -> None:
        """Adds a message, and waits for room. After a disconnect every message is dropped."""
        if message["type"] in _DISCONNECTS:
            if self._last is None:
                self._last = message
                if self._waits_for_last is not None:
                    self._waits_for_last.cancel(reason="the client is gone")
                self._room.unpark_all()
                self._arrivals.unpark_all()
            return
        while len(self._messages) >= CAPACITY and self._last is None:
            await self._room.park()
        if self._last is None:
            self._messages.append(message)
            self._arrivals.unpark()

    def cancel_at_last(self, scope: trio.CancelScope | None) -> None:
        """Cancels `scope` at the disconnect, also if other messages wait before it. None cancels nothing."""
        self._waits_for_last = scope
        if scope is not None and self._last is not None:
            scope.cancel(reason="the client is gone")

    def get_nowait(self) -> Message | None:
        """The next message; None where none has arrived. After the other messages, the disconnect, as often as it is
        asked for.
        """
        if not self._messages:
            return self._last
        self._room.unpark()
        return self._messages.popleft()

    async def __call__(self) -> Message:
        """As `get_nowait`, but waits for the message."""
        while (message := self.get_nowait()) is None:
            await self._arrivals.park()
        return message


class ApplicationTasks:
    """The tasks of one connection. For Hypercorn's WebSocket stream this is its task group."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._background: list[trio.CancelScope] = []

    async def spawn_app(
        self, app: Application, _config: object, scope: MutableMapping[str, Any], send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Message], Awaitable[None]]:
        """Runs `app` for one exchange. Returns the inbox of its messages."""
        return self.spawn_exchange(app, scope, send).put

    def spawn_exchange(
        self, app: Application, scope: MutableMapping[str, Any], send: Callable[[Any], Awaitable[None]]
    ) -> Inbox:
        """Runs `app` for one exchange. Returns the inbox of its messages."""
        inbox = Inbox()
        self._nursery.start_soon(_run, app, scope, inbox, send)
        return inbox

    def spawn(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        """Runs a task that does not end by itself: the pings of a WebSocket."""
        scope = trio.CancelScope()
        self._background.append(scope)
        self._nursery.start_soon(_within, scope, task, *args)

    def end_background(self) -> None:
        """Cancels the tasks that `spawn` runs."""
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
        if fatal(group) is not None:
            raise
        # A fault of one exchange must not end the server.
        log.exception("the handler of a request failed", path=scope["path"], exc_info=group)
    # Tells the stream that the application has returned. A cancelled application is cut, so this is in no `finally`.
    await send(None)
