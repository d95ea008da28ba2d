"""The machine of one connection: HTTP/1.1 by h11, WebSockets by Hypercorn's stream, with what they lack at their edges.

- Every answer that they give by themselves is the JSON that other errors are, and closes the connection.
- A request with two framings, which two servers in a row could read differently, is refused.
- A WebSocket whose handshake or message breaks the rules ends, and the application hears of it.
"""

import functools
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast
from wsgiref.handlers import format_date_time

import h11
import msgspec
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.events import Event as ConnectionEvent
from hypercorn.protocol.events import Body, Data, EndBody, Event, Request, Response, StreamClosed
from hypercorn.protocol.h11 import STREAM_ID, H11WSConnection
from hypercorn.protocol.ws_stream import ASGIWebsocketState, FrameTooLargeError, WSStream
from hypercorn.trio.worker_context import WorkerContext
from wsproto.connection import ConnectionState as SocketState
from wsproto.events import CloseConnection, Message, Ping
from wsproto.frame_protocol import CloseReason

from llmactors.http.http_stream import Headers, HttpStream
from llmactors.http.inbox import Application, ApplicationTasks
from llmactors.http.request_id import new_request_id

Address = tuple[str, int] | None
_ABSOLUTE_FORM = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*(?P<origin>.*)")
_VERSIONS = {b"1.0", b"1.1"}
_FRAMINGS = {b"content-length", b"transfer-encoding"}
_CLOSED_BY_CLIENT = {SocketState.REMOTE_CLOSING, SocketState.CLOSED}
_SWITCHING = 101
_CLOSE = (b"connection", b"close")
_UNFINISHED = {h11.SEND_BODY, h11.ERROR, None}
"""States of a client that has more to say, or may have. None: it is a WebSocket's."""


class Http1:
    """One connection's machine: HTTP/1.1 by h11, WebSockets by Hypercorn's. No upgrade to HTTP/2 is offered.

    Args:
        send: Takes bytes for the client, whether the connection is idle now, and its end.
        wait_aside: Waits for an event and notices meanwhile if the client goes: the machine waits with it while a
            request is answered and the next one is there already.
    """

    def __init__(
        self,
        app: Application,
        config: Config,
        context: WorkerContext,
        tasks: ApplicationTasks,
        client: Address,
        server: Address,
        send: Callable[[ConnectionEvent], Awaitable[None]],
        wait_aside: Callable[[trio.Event], Awaitable[None]],
    ) -> None:
        self.connection: h11.Connection | H11WSConnection = h11.Connection(
            h11.SERVER, max_incomplete_event_size=config.h11_max_incomplete_size
        )
        self.connection_state: dict[str, Any] = {}
        """What every exchange of this connection finds in its scope under `state`."""
        self.stream: HttpStream | WebSocketStream | None = None
        self.may_continue_body = False
        self._app = app
        self._config = config
        self._context = context
        self._tasks = tasks
        self._client = client
        self._server = server
        self._send = send
        self._wait_aside = wait_aside
        self._may_read = trio.Event()
        """Set when the next request of a pipeline may be handled."""
        self._socket_closed = False

    def __repr__(self) -> str:
        return f"<Http1 {self.connection.their_state}/{self.connection.our_state} {self.stream}>"

    @property
    def client_may_be_sending(self) -> bool:
        """Whether there may be something to read that belongs to what has been answered."""
        if self._socket_closed:
            return False
        return self.connection.their_state in _UNFINISHED or bool(self.connection.trailing_data[0])

    # What the client says.

    async def received(self, data: bytes) -> None:
        """Bytes came; none: there will be no more."""
        self.connection.receive_data(data)
        while (event := await self._next_event()) is not None:
            if isinstance(event, h11.Request):
                await self._send(Updated(idle=False))
                await self._begin(event)
            elif self.stream is None:
                return
            elif isinstance(event, h11.Data):
                await self.stream.handle(Body(stream_id=STREAM_ID, data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                await self.stream.handle(EndBody(stream_id=STREAM_ID))
            elif isinstance(event, Data):
                await self.stream.handle(event)

    async def closed(self) -> None:
        """The connection has ended."""
        await self._close_stream()

    async def _next_event(self) -> Any:
        """None where more bytes are needed, or no more are wanted."""
        while True:
            if self.connection.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[*_date_header()])
                await self.write(self._rendered(go_on))
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                if self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                    await self._refuse(error.error_status_hint)
                await self._send(Closed())
                return None
            if event is h11.PAUSED and self.connection.trailing_data[0]:
                self._may_read = trio.Event()
                await self._wait_aside(self._may_read)
            elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return None
            else:
                return event

    async def _begin(self, request: h11.Request) -> None:
        names = {name for name, _ in request.headers}
        refused = 505 if request.http_version not in _VERSIONS else 400 if names >= _FRAMINGS else None
        if refused is not None:
            await self._refuse(refused, with_body=request.method != b"HEAD")
            await self._send(Closed())
        elif _is_websocket_handshake(request):
            await self._begin_websocket(request)
        else:
            self.stream = HttpStream(self)
            about = {"client": self._client, "server": self._server, "state": self.connection_state.copy()}
            self.connection_state.pop("arrived", None)  # not when the next one of a pipeline did
            await self.stream.begin(self._app, self._tasks, request, _origin_form(request.target), about)

    async def _begin_websocket(self, request: h11.Request) -> None:
        self.connection = H11WSConnection(cast("h11.Connection", self.connection))
        self.stream = WebSocketStream(
            cast("Any", self._app),
            self._config,
            self._context,
            cast("Any", self._tasks),
            False,
            self._client,
            self._server,
            self._of_websocket,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method="GET",
                raw_path=_origin_form(request.target),
                state=cast("Any", self.connection_state),
            )
        )

    # What an exchange says. See `http_stream.Machine`.

    def head(self, status: int, headers: Headers) -> bytes:
        """An answer begins."""
        last = (_CLOSE,) if self._is_last_response() else ()
        return self._rendered(h11.Response(status_code=status, headers=[*headers, *last, *_date_header()]))

    def piece(self, data: bytes) -> bytes:
        """A part of its body."""
        return self._rendered(h11.Data(data=data))

    def end(self) -> bytes:
        """Its body is whole."""
        return self._rendered(h11.EndOfMessage())

    async def write(self, data: bytes) -> None:
        """Sends bytes to the client, or drops them if it is gone."""
        await self._send(RawData(data=data))

    async def exchange_over(self) -> None:
        """Makes ready for the next exchange if this one is complete, and else ends the connection."""
        await self._close_stream()
        connection = self.connection
        complete = connection.our_state is h11.DONE and connection.their_state is h11.DONE
        if complete and not self._context.terminated.is_set():
            connection.start_next_cycle()
            self._may_read.set()
            await self._send(Updated(idle=True))
        else:
            self._may_read.set()
            await self._send(Closed())

    async def refuse(self, status: int, *, with_body: bool) -> None:
        """Answers what no application has answered, and ends the connection with it."""
        await self._refuse(status, with_body=with_body)

    async def _refuse(self, status: int, *, with_body: bool = True) -> None:
        message = _MESSAGES.get(status, "this is not a valid HTTP request")
        headers, body = _error_answer(status, message)
        data = self._rendered(h11.Response(status_code=status, headers=[*headers, _CLOSE, *_date_header()]))
        if with_body:
            data += self.piece(body)
        await self.write(data + self.end())

    def _rendered(self, event: h11.Event) -> bytes:
        try:
            return self.connection.send(cast("Any", event)) or b""
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return b""  # the client has said what is no HTTP, and hears nothing any more

    def _is_last_response(self) -> bool:
        # A body that was not read whole when it is answered never will be.
        return self.connection.their_state in _UNFINISHED or self._context.terminated.is_set()

    # What a WebSocket says.

    async def _of_websocket(self, event: Event) -> None:
        if isinstance(event, Data):
            await self.write(event.data)
        elif isinstance(event, Response):
            headers = [*event.headers, *_date_header()]
            if event.status_code == _SWITCHING:
                accepts = h11.InformationalResponse(status_code=_SWITCHING, headers=headers)
                await self.write(self._rendered(accepts))
            else:
                last = (_CLOSE,) if self._is_last_response() else ()
                await self.write(self._rendered(h11.Response(status_code=event.status_code, headers=[*headers, *last])))
        elif isinstance(event, Body):
            await self.write(self.piece(event.data))
        elif isinstance(event, EndBody):
            await self.write(self.end())
        elif isinstance(event, StreamClosed):
            await self.exchange_over()

    async def _close_stream(self) -> None:
        stream, self.stream = self.stream, None
        self.may_continue_body = False
        if isinstance(stream, WebSocketStream):
            self._socket_closed = stream.client_closed
        if stream is not None:
            await stream.handle(StreamClosed(stream_id=STREAM_ID))


class WebSocketStream(WSStream):
    """One WebSocket, without compression: an event is too short to gain by it, and a message must not swell."""

    client_closed = False
    """The client's close frame has come, after which it sends nothing."""

    async def handle(self, event: Event) -> None:
        """Something came from the client."""
        if isinstance(event, Request):
            headers = [pair for pair in event.headers if pair[0] != b"sec-websocket-extensions"]
            await super().handle(replace(event, headers=headers))
            if self.closed:  # the handshake was refused
                await self.send(StreamClosed(stream_id=self.stream_id))
        elif isinstance(event, Data) and not self.handshake.accepted:
            if self.state is ASGIWebsocketState.HANDSHAKE:
                # It could not know yet that it may send. Hypercorn would answer, and tell the application nothing.
                await self._send_error_response(400)
                await self.send(StreamClosed(stream_id=self.stream_id))
        else:
            await super().handle(event)

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if isinstance(event, Message):
                try:
                    self.buffer.extend(event)
                except FrameTooLargeError:
                    limit = self.config.websocket_max_message_size
                    await self._end(CloseReason.MESSAGE_TOO_BIG, f"at most {limit} bytes in a message")
                    return
                if event.message_finished:
                    message = self.buffer.to_message()
                    self.buffer.clear()
                    await self.app_put(message)  # type: ignore[misc]  # set since the handshake
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                self.client_closed = self.connection.state in _CLOSED_BY_CLIENT
                if self.connection.state is SocketState.REMOTE_CLOSING:
                    await self._send_wsproto_event(event.response())
                    await self.send(StreamClosed(stream_id=self.stream_id))
                else:
                    # The answer to our own, or wsproto's verdict on something that is no frame.
                    await self._end(event.code, event.reason)
                return

    async def _end(self, code: int, reason: str | None) -> None:
        await self._send_wsproto_event(CloseConnection(code=code, reason=reason))
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _send_error_response(self, status_code: int) -> None:
        message = "internal error" if status_code == 500 else "this is not a valid WebSocket handshake"
        headers, body = _error_answer(status_code, message)
        await self.send(Response(stream_id=self.stream_id, status_code=status_code, headers=headers))
        await self.send(Body(stream_id=self.stream_id, data=body))
        await self.send(EndBody(stream_id=self.stream_id))


_MESSAGES = {
    431: "the request head is too large",
    505: "HTTP/1.1 is what is understood here",
    501: "this transfer encoding is not implemented",
}


def _date_header() -> Headers:
    return _date_header_at(int(time.time()))


@functools.lru_cache(maxsize=1)
def _date_header_at(now_s: int) -> Headers:
    return ((b"date", format_date_time(now_s).encode()),)


def _error_answer(status: int, message: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and the body of an answer to what no application sees."""
    request_id = new_request_id()
    code = "INTERNAL" if status == 500 else "INVALID_REQUEST"
    body = msgspec.json.encode({"error": {"code": code, "message": message, "request_id": request_id}})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
    ]
    return headers, body


def _is_websocket_handshake(request: h11.Request) -> bool:
    if request.method != b"GET":
        return False
    headers = dict(request.headers)
    tokens = headers.get(b"connection", b"").lower().split(b",")
    return headers.get(b"upgrade", b"").lower() == b"websocket" and b"upgrade" in map(bytes.strip, tokens)


def _origin_form(target: bytes) -> bytes:
    """`/path?query`, also of a target that names the server, as requests to proxies do. RFC 9112, section 3.2.2."""
    match = None if target.startswith(b"/") else _ABSOLUTE_FORM.match(target)
    if match is None:
        return target
    return match["origin"] if match["origin"].startswith(b"/") else b"/" + match["origin"]
