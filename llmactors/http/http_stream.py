"""One HTTP exchange: an ASGI application above, the connection's HTTP/1.1 machine below.

In place of Hypercorn's, to write less often: the head of an answer goes out with what follows it at once, and the last
piece of a body together with the body's end. That, and a layer of events less, is a fifth of what a request costs.
"""

from collections.abc import Iterable
from typing import Any, Protocol
from urllib.parse import unquote

import h11
from hypercorn.protocol.events import Body, EndBody, Event, StreamClosed
from hypercorn.utils import UnexpectedMessageError, suppress_body

from llmactors.http.inbox import ApplicationTasks, Inbox, Message

_BEGINS = "http.response.start"
_CONTINUES = "http.response.body"
_GONE: Message = {"type": "http.disconnect"}
Headers = Iterable[tuple[bytes, bytes]]


class Machine(Protocol):
    """What an exchange needs of its connection. The bytes that it gives must be written in this order."""

    may_continue_body: bool
    """Whether a chunk of a body can go out now that passes by the machine, for which a chunk changes nothing. The
    exchange's own: kept where one look is enough, as there is one per token."""

    def head(self, status: int, headers: Headers) -> bytes:
        """An answer begins."""
        ...

    def piece(self, data: bytes) -> bytes:
        """A part of its body."""
        ...

    def end(self) -> bytes:
        """Its body is whole."""
        ...

    async def write(self, data: bytes) -> None:
        """Sends bytes to the client, or drops them if it is gone."""
        ...

    async def exchange_over(self) -> None:
        """Makes ready for the next exchange if this one is complete, and else ends the connection."""
        ...

    async def refuse(self, status: int, *, with_body: bool) -> None:
        """Answers what no application has answered, and ends the connection with it."""
        ...


class HttpStream:
    """Runs the application for one request, and turns its messages into an answer."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._method = ""
        self._status = 0
        """Of the answer that has begun; 0 before."""
        self._head = b""
        """The head of the answer, while it waits for the first word of the body."""
        self._over = False
        self._inbox: Inbox

    def __repr__(self) -> str:
        return f"<HttpStream {self._method} {'over' if self._over else self._status or 'open'}>"

    async def begin(self, app: Any, tasks: ApplicationTasks, request: h11.Request, origin: bytes, about: Any) -> None:
        """Runs `app` for this request. `about` are those entries of its scope that the connection knows."""
        path, _, query = origin.partition(b"?")
        # As it is: methods are case-sensitive, and to the machine, which frames the answer, a `head` is no HEAD.
        self._method = request.method.decode("ascii")
        scope = {
            "type": "http",
            "asgi": {"spec_version": "2.1", "version": "3.0"},
            "http_version": request.http_version.decode(),
            "method": self._method,
            "scheme": "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "extensions": {},
            **about,
        }
        self._inbox = tasks.spawn_exchange(app, scope, self.send)

    async def handle(self, event: Event) -> None:
        """Something came from the client, or the client is gone."""
        if self._over:
            return
        if isinstance(event, Body):
            await self._inbox.put({"type": "http.request", "body": bytes(event.data), "more_body": True})
        elif isinstance(event, EndBody):
            await self._inbox.put({"type": "http.request", "body": b"", "more_body": False})
        elif isinstance(event, StreamClosed):
            self._over = True
            await self._inbox.put(_GONE)

    async def send(self, message: Message | None) -> None:
        """The application answers; None: it is done. Raises `UnexpectedMessageError` for what is out of turn."""
        if message is None:
            if not self._over:
                if not self._status:
                    await self._machine.refuse(500, with_body=self._method != "HEAD")
                await self._machine.exchange_over()
        elif self._over:
            return  # nobody hears it
        elif message["type"] == _BEGINS and not self._status:
            status = int(message["status"])
            # First, because it raises for a header that is none; then the answer has not begun.
            self._head = self._machine.head(status, message.get("headers", ()))
            self._status = status
        elif message["type"] == _CONTINUES and self._status:
            await self._continue(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise UnexpectedMessageError(self._status, message["type"])  # type: ignore[arg-type]  # it is only shown

    async def _continue(self, body: bytes, *, more: bool) -> None:
        data, self._head = self._head, b""
        if body and not suppress_body(self._method, self._status):
            data += self._machine.piece(bytes(body))
        if not more:
            data += self._machine.end()
        self._machine.may_continue_body = more
        await self._machine.write(data)
        if not more:
            self._inbox.cancel_at_last(None)  # who has given the whole answer is left to finish
            await self._machine.exchange_over()
