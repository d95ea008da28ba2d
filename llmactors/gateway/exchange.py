"""One HTTP exchange over plain ASGI: reading a bounded body, answering, and refusing."""

import math
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec
import structlog
import trio

from llmactors.actors import leaves
from llmactors.errors import InternalError, LlmactorsError, MethodNotAllowed, RequestTimeout, TooLarge
from llmactors.gateway.service import RateLimitedBy
from llmactors.limiter import rate_headers

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[str, str]

log = structlog.get_logger("llmactors.gateway")

LINGER_S = 1.0
"""How long a client that is refused in the middle of its body may go on sending before it is cut off."""


class ClientGone(Exception):
    """The client went away before it had sent its whole request. There is nobody to answer."""


class Exchange:
    """One request and its one answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self.scope = scope
        self.request_id = request_id
        self.status = 0
        """The status sent; 0 before."""
        self.code: str | None = None
        """The code of the error sent, if one was."""
        self._receive = receive
        self._send = send
        self._body_done = False

    def __repr__(self) -> str:
        return f"<Exchange {self.request_id} {self.scope['method']} {self.scope['path']} {self.status or 'open'}>"

    @property
    def client(self) -> str:
        """The client's address, without its port."""
        client = self.scope.get("client")
        return str(client[0]) if client else "local"

    def header(self, name: bytes) -> str | None:
        """The first header of this (lower-case) name."""
        for key, value in self.scope["headers"]:
            if key.lower() == name:
                return str(value.decode("latin-1")).strip()
        return None

    async def body(self, *, max_bytes: int, within_s: float) -> bytes:
        """The whole body. Raises `TooLarge` as soon as that is clear, `RequestTimeout`, or `ClientGone`."""
        declared = self.header(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > max_bytes:
            raise TooLarge(f"the body has {declared} bytes; at most {max_bytes} are accepted")
        pieces: list[bytes] = []
        size = 0
        with trio.move_on_after(within_s):
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                if size > max_bytes:
                    raise TooLarge(f"the body is larger than the {max_bytes} bytes that are accepted")
                if not message.get("more_body", False):
                    self._body_done = True
                    return b"".join(pieces)
        raise RequestTimeout(f"the body did not arrive within {within_s:g} s")

    async def wait_disconnect(self) -> None:
        """Returns when the client is gone. Only after `body`."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int, headers: Iterable[Header], content_type: str) -> None:
        """Sends the head of an answer whose body follows by `write`."""
        self.status = status
        pairs = [(b"content-type", content_type.encode()), (b"x-request-id", self.request_id.encode())]
        client_id = self.header(b"x-request-id")
        if client_id is not None:
            pairs.append((b"x-client-request-id", client_id[:128].encode("latin-1")))
        pairs += [(name.encode(), value.encode()) for name, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Sends a part of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def answer(self, status: int, payload: object, headers: Iterable[Header] = ()) -> None:
        """A whole JSON answer."""
        data = msgspec.json.encode(payload)
        await self.start(status, [*headers, ("content-length", str(len(data)))], "application/json")
        await self.write(data, more=False)

    async def empty(self, status: int) -> None:
        """An answer without a body."""
        await self.start(status, [], "application/json")
        await self.write(b"", more=False)

    async def refuse(self, error: LlmactorsError) -> None:
        """The error as the answer, or nothing if another answer has begun.

        If the client is still sending its body, it is listened to a little longer: a connection that is closed
        under a sender is reset, and the sender may never read why.
        """
        if self.status:
            return
        self.code = error.code
        data = msgspec.json.encode(error_object(error, self.request_id))
        headers = [*error_headers(error), ("content-length", str(len(data)))]
        if self._body_done or self.scope["method"] in {"GET", "HEAD", "DELETE"}:
            await self.start(error.status, headers, "application/json")
            await self.write(data, more=False)
            return
        await self.start(error.status, [*headers, ("connection", "close")], "application/json")
        await self.write(data)
        with trio.move_on_after(LINGER_S):
            while (message := await self._receive()).get("more_body", False):
                del message
        async with trio.open_nursery() as nursery:
            # The server's queue of body parts may be full, and it cannot end the exchange while it is.
            nursery.start_soon(self._discard)
            await self.write(b"", more=False)
            nursery.cancel_scope.cancel(reason="the exchange is over")

    async def _discard(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def error_object(error: LlmactorsError, request_id: str) -> dict[str, Any]:
    """The body of an error answer."""
    return {"error": {"code": error.code, "message": error.message, "request_id": request_id}}


def error_headers(error: LlmactorsError) -> list[Header]:
    """`Retry-After` on every 429 and 503, `Allow` on a 405, `WWW-Authenticate` on a 401."""
    headers: list[Header] = []
    if isinstance(error, RateLimitedBy):
        headers += rate_headers(error.decision)
    elif error.status in {429, 503} or error.retry_after_s is not None:
        seconds = error.retry_after_s or 1.0
        headers += [("retry-after", str(max(1, math.ceil(seconds)))), ("retry-after-ms", str(round(seconds * 1000)))]
    if isinstance(error, MethodNotAllowed):
        headers.append(("allow", ", ".join(error.allowed)))
    if error.status == 401:
        headers.append(("www-authenticate", "Bearer"))
    return headers


async def serve(exchange: Exchange, handler: Callable[[], Awaitable[None]]) -> None:
    """Runs `handler`; what it raises becomes an answer: errors of ours as they are, any other as `INTERNAL`, logged."""
    try:
        await handler()
    except ClientGone:
        exchange.status = 499
    except LlmactorsError as error:
        await exchange.refuse(error)
    except Exception as error:
        ours = leaves(error)[0]
        if isinstance(ours, LlmactorsError):
            await exchange.refuse(ours)
            return
        log.exception("request failed", request_id=exchange.request_id, exc_info=error)
        await exchange.refuse(InternalError("internal error; the log has it under this request id"))
