"""One WebSocket between its connection and its ASGI application, by Hypercorn's `WSStream`.

Only this file imports Hypercorn. What it takes from Hypercorn is no public interface and may change in any minor
release, so pyproject.toml pins the release. Three things differ from Hypercorn's own behaviour:

- There is no compression: an event is too short to gain by it, and a compressed message could swell.
- An error response is JSON in the form of the server's other errors.
- A message or a handshake that breaks the protocol ends the socket, and the application receives a disconnect.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any, Protocol, cast

import h11
import trio
from hypercorn.config import Config
from hypercorn.protocol.events import Body, Data, EndBody, Event, Request, Response, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, FrameTooLargeError, WSStream
from hypercorn.trio.worker_context import WorkerContext
from wsproto.connection import ConnectionState as SocketState
from wsproto.events import CloseConnection, Message, Ping
from wsproto.events import Event as WSProtoEvent
from wsproto.frame_protocol import CloseReason

from llmactors.http.byte_budget import ByteBudget
from llmactors.http.held_websocket import HeldWebSocket
from llmactors.http.inbox import Application, ApplicationTasks

PING_EVERY_S = 20.0
FRAMES_AT_ONCE = 32
"""The number of frames that are handled before other tasks run."""
MESSAGE_S = 30.0
"""The time in which a message must be complete. Each ping checks the time."""
MAX_FRAMES = 1024
"""The number of frames that one message may have. An empty frame adds nothing to the size of a message."""

_ID = 1
"""Hypercorn numbers the streams of a connection; HTTP/1.1 has one."""
_REPLACED = {b"sec-websocket-extensions", b"connection", b"upgrade"}
"""The headers that Hypercorn does not get as the client sent them: of repeated ones it reads only the last."""
_VERSION = (b"sec-websocket-version", b"13")
_CLOSED_BY_CLIENT = {SocketState.REMOTE_CLOSING, SocketState.CLOSED}

Headers = list[tuple[bytes, bytes]]


class SocketOutput(Protocol):
    """The connection below a WebSocket."""

    async def write(self, data: bytes) -> None:
        """Sends frames to the client, or drops them if the client is gone."""
        ...

    async def answer_handshake(self, status: int, headers: Headers) -> None:
        """Sends the head of the response to the handshake: 101, or a refusal whose body follows."""
        ...

    async def write_body(self, data: bytes) -> None:
        """Sends a part of the body of a refusal."""
        ...

    async def end_body(self) -> None:
        """Ends the body of a refusal."""
        ...

    async def exchange_over(self) -> None:
        """Ends the connection: the WebSocket is closed, or its handshake was refused."""
        ...


class WebSocketStream(WSStream):
    """Runs the application for one WebSocket.

    Args:
        output: The connection.
        tasks: Runs the application and the pings.
        max_message_bytes: The largest message that a client may send.
        held: What the WebSocket leaves to a later process; None for a connection that ends with this process.
        error_response: Makes the headers and the body of an error response from its status and message.
    """

    client_closed = False
    """Whether the client's close frame has arrived. After a close frame a client sends nothing."""

    def __init__(
        self,
        app: Application,
        tasks: ApplicationTasks,
        output: SocketOutput,
        *,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
        max_message_bytes: int,
        unfinished: ByteBudget,
        held: HeldWebSocket | None,
        error_response: Callable[[int, str], tuple[Headers, bytes]],
    ) -> None:
        config = _config(max_message_bytes)
        app_, tasks_, context = cast("Any", app), cast("Any", tasks), WorkerContext(None)
        # Hypercorn's stream keeps its way out. A method of this object would make a cycle, which only the garbage
        # collector could free, and with it the connection.
        out = functools.partial(_pass_on, output)
        super().__init__(app_, config, context, tasks_, False, client, server, out, _ID)
        self._handled = 0
        self._left = held
        self._was_decided = trio.Event()
        """Set once the application has accepted or refused the handshake."""
        self._unfinished = unfinished
        self._held = 0
        """The bytes of the message that has begun, of `unfinished`."""
        self._began = 0.0
        """The time at which the message began, on Trio's clock."""
        self._frames = 0
        """The number of frames of the message that has begun."""
        self._output = output
        self._error_response = error_response

    async def begin(self, request: h11.Request, target: bytes, state: dict[str, Any]) -> None:
        """Checks the handshake in `request`, and runs the application for a valid one.

        `state` is the connection's entry of the ASGI scope.
        """
        # Without the extensions that the client offers, none is agreed on.
        headers = [(name, _ascii(value)) for name, value in request.headers if name not in _REPLACED]
        headers += [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
        version = request.http_version.decode()
        await super().handle(
            Request(
                stream_id=_ID,
                headers=headers,
                http_version=version,
                method="GET",
                raw_path=target,
                state=cast("Any", state),
            )
        )
        if self.closed:  # the handshake was refused
            await self._output.exchange_over()

    async def received(self, data: bytes) -> None:
        """Takes bytes that came from the client after its handshake."""
        if self._left is not None and self._left.is_resumed:
            await self._was_decided.wait()  # the client has the response, and may send, before the application runs
        if self.closed:
            return
        if self.handshake.accepted:
            if self._left is not None:
                self._left.feed(len(data))
            await super().handle(Data(stream_id=_ID, data=data))
        elif self.state is ASGIWebsocketState.HANDSHAKE:
            # The client could not know yet that it may send. Hypercorn would not tell the application.
            await self._send_error_response(400)
            await self._output.exchange_over()

    async def client_gone(self) -> None:
        """Tells the application that the connection has ended."""
        self._forget_message()
        self._was_decided.set()
        await super().handle(StreamClosed(stream_id=_ID))

    async def _accept(self, message: Any) -> None:
        await super()._accept(message)
        self._was_decided.set()

    async def _send_wsproto_event(self, event: WSProtoEvent) -> None:
        if self._left is not None and isinstance(event, CloseConnection):
            # An application that closes the WebSocket handles no further messages.
            self._left.close(ignores_rest=self.state is ASGIWebsocketState.CLOSED)
        await super()._send_wsproto_event(event)

    @property
    def _unparsed(self) -> int:
        """The number of bytes behind the frame of the event that was taken last."""
        return len(self.connection._proto._frame_decoder.buffer)  # noqa: SLF001 - wsproto does not tell

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            self._handled += 1
            if self._handled % FRAMES_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            if isinstance(event, Message):
                refusal = self._add(event)
                if refusal is not None:
                    await self._end(*refusal)
                    return
                if event.message_finished:
                    message = self.buffer.to_message()
                    self._forget_message()
                    if self._left is not None:
                        message["held"] = self._left.message(self._unparsed)
                    await self.app_put(message)  # type: ignore[misc]  # it is set since the handshake
            elif isinstance(event, CloseConnection):
                await self._handle_close(event)
                return
            elif self._must_answer(event):
                await self._send_wsproto_event(cast("Ping", event).response())

    def _must_answer(self, event: object) -> bool:
        """Takes a ping or a pong, and returns whether it is a ping that was not answered."""
        if self._left is None:
            return isinstance(event, Ping)
        end = self._left.control_frame(self._unparsed, amid_message=self._frames > 0)
        return isinstance(event, Ping) and self._left.must_answer(end)

    async def _handle_close(self, event: CloseConnection) -> None:
        self.client_closed = self.connection.state in _CLOSED_BY_CLIENT
        if self.connection.state is SocketState.REMOTE_CLOSING:
            await self._send_wsproto_event(event.response())
            await self._output.exchange_over()
        else:
            # The reply to the server's own close frame, or wsproto's answer to bytes that are no frame.
            await self._end(event.code, event.reason)

    def _add(self, frame: "Message[Any]") -> tuple[int, str] | None:
        """Adds a frame to its message. Returns the code and the reason of a close where the message is refused."""
        if not self._frames:
            self._began = trio.current_time()
        self._frames += 1
        if self._frames > MAX_FRAMES:
            return CloseReason.POLICY_VIOLATION, f"at most {MAX_FRAMES} frames in a message"
        try:
            self.buffer.extend(frame)
        except FrameTooLargeError:
            limit = self.config.websocket_max_message_size
            return CloseReason.MESSAGE_TOO_BIG, f"at most {limit} bytes in a message"
        if not self._hold(len(frame.data)):
            return CloseReason.TRY_AGAIN_LATER, "too many messages arrive at once"
        return None

    def _hold(self, count: int) -> bool:
        """Counts bytes of the message that has begun. Returns False if all connections together hold too many."""
        if not self._unfinished.take(count):
            return False
        self._held += count
        return True

    def _forget_message(self) -> None:
        self.buffer.clear()
        self._frames = 0
        self._unfinished.give_back(self._held)
        self._held = 0

    async def _send_pings(self) -> None:
        while not self.closed:
            if self._frames and trio.current_time() - self._began > MESSAGE_S:
                await self._end(CloseReason.POLICY_VIOLATION, f"a message must be complete within {MESSAGE_S:g} s")
                return
            await self._send_wsproto_event(Ping())
            await trio.sleep(PING_EVERY_S)

    async def _end(self, code: int, reason: str | None) -> None:
        await self._send_wsproto_event(CloseConnection(code=code, reason=reason))
        await self._output.exchange_over()

    async def _send_error_response(self, status_code: int) -> None:
        message = "internal error" if status_code == 500 else "this is not a valid WebSocket handshake"
        headers, body = self._error_response(status_code, message)
        # A client of another version learns from this header which version is served. RFC 6455, section 4.4.
        await self._output.answer_handshake(status_code, [*headers, _VERSION])
        await self._output.write_body(body)
        await self._output.end_body()


async def _pass_on(output: SocketOutput, event: Event) -> None:
    """Gives the connection what Hypercorn's stream has for the client."""
    if isinstance(event, Data):
        await output.write(event.data)
    elif isinstance(event, Response):
        await output.answer_handshake(event.status_code, list(event.headers))
    elif isinstance(event, Body):
        await output.write_body(event.data)
    elif isinstance(event, EndBody):
        await output.end_body()
    elif isinstance(event, StreamClosed):
        await output.exchange_over()


def _ascii(value: bytes) -> bytes:
    """A header's value with question marks for other characters, which Hypercorn could not read."""
    return value if value.isascii() else value.decode("latin-1").encode("ascii", "replace")


@functools.cache
def _config(max_message_bytes: int) -> Config:
    config = Config()
    config.websocket_max_message_size = max_message_bytes
    config.websocket_ping_interval = PING_EVERY_S
    config.errorlog = logging.getLogger("hypercorn.error")
    return config
