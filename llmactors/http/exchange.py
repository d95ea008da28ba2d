"""One HTTP exchange over plain ASGI: a request with a bounded body, and one response."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Protocol

import msgspec
import structlog
import trio

from llmactors.actors import fatal, leaves
from llmactors.errors import InternalError, InvalidRequest, LlmactorsError, RequestTimeout, TooLarge, Unavailable
from llmactors.http.byte_budget import ByteBudget
from llmactors.http.held_request import HeldRequest
from llmactors.http.inbox import Inbox
from llmactors.http.protocol_settings import client_host

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[str, str]

MAX_KEY_CHARS = 255
_ECHOED_CHARS = 128
_LEAST_BODY_S = 1.0
"""The time that the rest of a body has after a takeover, however long ago the request began."""
_BY_NAME = "llmactors.headers"
"""The key of an ASGI scope under which its headers are kept by name, because a request is asked for a dozen of them."""

log = structlog.get_logger("llmactors.http")


class ChunkWriter(Protocol):
    """The connection of an exchange, for chunks of a body that has begun and has no declared length."""

    reached: bytes | int  # as for `Exchange.note_reached`; set for each token

    def write_chunk_nowait(self, data: bytes) -> bool | None:
        """Sends one chunk, which must not be empty.

        Returns True if the chunk was sent; False if only a part was sent, after which `write_rest` must be called; None
        if no chunk can be sent now, so that `Exchange.write` must be used.
        """
        ...

    async def write_rest(self) -> None:
        """Sends the rest of a chunk of which a part was sent."""
        ...


class ClientGone(Exception):
    """The client disconnected before it had sent its whole request."""


class ErrorRenderer(Protocol):
    """The form that the clients of one API family expect of errors."""

    def status(self, error: LlmactorsError | type[LlmactorsError]) -> int:
        """The HTTP status of an error, or of a kind of errors."""
        ...

    def body(self, error: LlmactorsError, request_id: str) -> dict[str, Any]:
        """The JSON object of an error response."""
        ...

    def headers(self, error: LlmactorsError) -> list[Header]:
        """The headers that an error response has beside those of every response."""
        ...


class Exchange:
    """One request and its one response. `begun` is the time of the request's arrival on Trio's clock."""

    def __init__(self, scope: Scope, inbox: Inbox, send: Send, request_id: str, errors: ErrorRenderer) -> None:
        self.scope, self.request_id, state = scope, request_id, scope.get("state", {})
        self.status = 0
        """The status of the response; 0 before the response has begun."""
        self.errors = errors
        self._unfinished: ByteBudget = state.get("unfinished") or ByteBudget()
        self.parameters: Mapping[str, str] = {}
        """The parameters of the path, by name."""
        self.timing_header: str | None = None
        """The name of the header with the milliseconds until the response began; None for no such header."""
        self.id_header: str | None = None
        """The name of another header with the id of the request; None for `X-Request-Id` alone."""
        self.shared_headers: list[Header] = []
        """Headers of the response, whichever part of the node answers."""
        self.model = ""
        """The model of the request that was admitted; empty where none was."""
        self.on_end: Callable[[], None] | None = None
        """Called once, when the exchange is over."""
        self.code: str | None = None
        """The code of the error in the response or at the end of its stream; None where there is no error."""
        self.caller: object = None
        """Who sends the request, as the application knows after the check of the key; None before that."""
        self.ttft_s: Callable[[], float | None] = lambda: None
        """Returns how long after the request its first token was written, in seconds; None where none was, or where the
        answer is no stream."""
        self.held: HeldRequest | None = state.get("held")
        """The request as the keeper of its connection knows it; None where the connection ends with this process."""
        self.begun: float = (state.get("arrived") or trio.current_time()) - (self.held.age_s if self.held else 0.0)
        self._body: bytes | None = None
        """The body, where its request may be handled again in this process."""
        self._relayed_left: int | None = None
        """The bytes of a relayed body that are still to come; None where the body has no declared length."""
        self._inbox, self._send = inbox, send
        # HTTP/1.0 has no chunks: a body for such a client ends with its connection.
        self.wire: ChunkWriter | None = state.get("wire") if scope["http_version"] == "1.1" else None
        """Writes chunks of the body without a wait; None where the connection cannot."""

    def __repr__(self) -> str:
        return f"<Exchange {self.request_id} {self.scope['method']} {self.scope['path']} {self.status or 'open'}>"

    @property
    def client(self) -> str:
        """The address of the client, without a port."""
        return client_address(self.scope)

    def check_connection(self) -> None:
        """Raises the error for a request on a connection above one of the server's limits."""
        check_connection(self.scope)

    def header(self, name: bytes) -> str | None:
        """The value of the first header of this name, which is in lower case; None where there is none."""
        return header(self.scope, name)

    @property
    def idempotency_key(self) -> str | None:
        """The header `Idempotency-Key`. Raises `InvalidRequest` for a key that is too long."""
        key = self.header(b"idempotency-key")
        if key is not None and len(key) > MAX_KEY_CHARS:
            raise InvalidRequest(f"`Idempotency-Key` has {len(key)} characters; at most {MAX_KEY_CHARS} are accepted")
        return key or None

    async def body(self, *, max_bytes: int, within_s: float, large_bytes: int | None = None) -> bytes:
        """The whole body, of at most `max_bytes`. A body of more than `large_bytes` counts as large in the budget of
        the server's unfinished bodies.

        Raises `TooLarge` as early as possible, `RequestTimeout`, `Unavailable` where too many bodies arrive at once, or
        `ClientGone`.
        """
        if self._body is not None:
            return self._body
        if self.held is not None:
            within_s = max(_LEAST_BODY_S, within_s - self.held.age_s)
        body = await self._read_body(max_bytes, within_s, large_bytes)
        if self.held is not None and self.held.is_repeated:
            self._body = body
        return body

    async def _read_body(self, max_bytes: int, within_s: float, large_bytes: int | None) -> bytes:
        declared = self.header(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > max_bytes:
            raise TooLarge(f"the body has {declared} bytes; at most {max_bytes} are accepted")
        pieces: list[bytes] = []
        size = 0
        budget = self._unfinished
        deadline = trio.current_time() + within_s
        try:
            while True:
                message = self._inbox.get_nowait()  # mostly the whole body is here, and no scope for a wait is needed
                if message is None:
                    with trio.move_on_at(deadline):
                        message = await self._inbox()
                if message is None:
                    raise RequestTimeout(f"the body did not arrive within {within_s:g} s")
                if message["type"] == "http.disconnect":
                    raise ClientGone
                piece = message.get("body", b"")
                if not budget.take(len(piece), of_large=large_bytes is not None and size + len(piece) > large_bytes):
                    raise Unavailable("too many bodies arrive at once; try again in a moment", retry_after_s=1.0)
                pieces.append(piece)
                size += len(piece)
                if size > max_bytes:
                    raise TooLarge(f"the body is larger than the {max_bytes} bytes that are accepted")
                if not message.get("more_body", False):
                    return b"".join(pieces)
        finally:
            budget.give_back(size)

    async def while_connected(self, work: Callable[[], Awaitable[object]]) -> bool:
        """Runs `work` to its end, and returns True; or to the client's disconnect, and returns False.

        The body must have been read before.
        """
        finished = False
        with trio.CancelScope() as scope:
            self._inbox.cancel_at_last(scope)
            try:
                await work()
                finished = True
            finally:
                self._inbox.cancel_at_last(None)
        return finished

    async def start(self, status: int, headers: Iterable[Header], content_type: str) -> None:
        """Sends the head of a response. The body follows by `write`."""
        await self.begin(status, headers, content_type)
        await self.write(b"")

    async def begin(self, status: int, headers: Iterable[Header], content_type: str | None) -> None:
        """Prepares the head of a response. The head is sent together with the next write."""
        self.status = status
        given = dict(headers)
        given.setdefault("cache-control", "no-store")
        named = [*id_headers(self.scope, self.request_id), *self.shared_headers, *given.items()]
        if self.id_header is not None:
            named.append((self.id_header, self.request_id))
        if content_type is not None:
            named.append(("content-type", content_type))
        if self.timing_header is not None:
            named.append((self.timing_header, str(round((trio.current_time() - self.begun) * 1000))))
        await self._send({"type": "http.response.start", "status": status, "headers": wire_headers(named)})

    @property
    def reached(self) -> bytes | None:
        """How far the client has got in the response, as it was noted; None for a response that begins."""
        return None if self.held is None else self.held.reached

    def check_first_time(self) -> None:
        """Cuts the connection and raises `ClientGone` where an earlier process may have handled this request, which
        must not be handled twice.
        """
        if self.held is not None and self.held.is_repeated:
            self.held.refuse("an operator's change may have been made before, and is not made twice")
            raise ClientGone

    def note_reached(self, reached: bytes | int) -> None:
        """Says how far the next write of the body brings the client, for a process that takes the connection over."""
        if self.held is not None:
            self.held.note(reached)

    def note_answer(self, application: bytes) -> None:
        """Says what a later process needs to go on with this body in chunks, which has begun, without the request."""
        if self.held is not None and self.wire is not None:
            self.held.note_answer(self.scope["method"], self.scope["path"], application)

    async def resume(self) -> None:
        """Goes on with a response of which the client has the head and what `held.reached` says."""
        await self.write(b"")  # ends the head, which is not sent again
        if self.held is not None:
            self.held.resume()

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Sends a part of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def receive(self) -> Message:
        """The client's next message, for an ASGI application that answers this exchange."""
        return await self._inbox()

    async def relay(self, message: Message) -> None:
        """Sends a message of an ASGI application that answers this exchange."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            added = [*id_headers(self.scope, self.request_id), *self.shared_headers]
            headers = [*message["headers"], *wire_headers(added)]
            length = dict(message["headers"]).get(b"content-length")
            self._relayed_left = int(length) if length else None
            message = {**message, "headers": headers}
        elif self._relayed_left is not None:
            # One write for the ends of body and response: between two, nobody could know that the response was whole.
            if not self._relayed_left:
                return
            self._relayed_left = max(0, self._relayed_left - len(message.get("body", b"")))
            message = {**message, "more_body": self._relayed_left > 0 and message.get("more_body", False)}
        await self._send(message)

    async def answer(self, status: int, payload: object, headers: Iterable[Header] = ()) -> None:
        """Sends a whole JSON response."""
        data = msgspec.json.encode(payload)
        await self.begin(status, [*headers, ("content-length", str(len(data)))], "application/json")
        await self.write(data, more=False)

    async def empty(self, status: int, headers: Iterable[Header] = ()) -> None:
        """Sends a response without a body."""
        # RFC 9110, section 8.6: a 204 must have no length.
        length = [] if status == 204 else [("content-length", "0")]
        await self.begin(status, [*headers, *length], None)
        await self.write(b"", more=False)

    async def refuse(self, error: LlmactorsError) -> None:
        """Sends an error as the response. Nothing is sent if another response has begun."""
        if self.status:
            return
        self.code = error.code
        await self.answer(
            self.errors.status(error), self.errors.body(error, self.request_id), self.errors.headers(error)
        )


def check_connection(scope: Scope) -> None:
    """Raises the error for a request on a connection above one of the server's limits."""
    refusal = scope.get("state", {}).get("refusal")
    if refusal is not None:
        raise refusal


def client_address(scope: Scope) -> str:
    """The address of the client, without a port."""
    return client_host(scope.get("client"))


def header(scope: Scope, name: bytes) -> str | None:
    """The value of the first header of this name, in lower case, in an ASGI scope; None where there is none."""
    by_name = scope.get(_BY_NAME)
    if by_name is None:
        # Reversed, so that the first header of a name is the last one that is put in.
        by_name = scope[_BY_NAME] = {key.lower(): value for key, value in reversed(scope["headers"])}
    value = by_name.get(name)
    return None if value is None else str(value.decode("latin-1")).strip()


def id_headers(scope: Scope, request_id: str) -> list[Header]:
    """`X-Request-Id` of a response, and `X-Client-Request-Id` where the client sent an id of its own."""
    client_id = header(scope, b"x-request-id")
    own = [("x-request-id", request_id)]
    return own if client_id is None else [*own, ("x-client-request-id", echoed(client_id))]


def echoed(client_id: str) -> str:
    """The part of a client's own id that the response repeats. A cut may leave a space, which no header may end in."""
    return client_id[:_ECHOED_CHARS].rstrip()


def wire_headers(headers: Iterable[Header]) -> list[tuple[bytes, bytes]]:
    """The headers as ASGI takes them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


async def serve(exchange: Exchange, handler: Callable[[], Awaitable[None]]) -> None:
    """Runs `handler`, and answers with the error that it raises: any other than a `LlmactorsError` as `INTERNAL`.

    An error that no restart can mend, such as `MemoryError`, is raised again.
    """
    try:
        await handler()
    except ClientGone:
        exchange.status = 499
    except LlmactorsError as error:
        await exchange.refuse(error)
    except Exception as error:
        if fatal(error) is not None:
            raise
        ours = leaves(error)[0]
        if isinstance(ours, LlmactorsError):
            await exchange.refuse(ours)
            return
        log.exception("request failed", request_id=exchange.request_id, exc_info=error)
        await exchange.refuse(InternalError("internal error; the log has it under this request id"))
