"""The protocol of one connection: HTTP/1.1 by h11, and the way into a WebSocket.

This module decides what h11 leaves open:

- Every response that the server gives by itself, to bytes that are no valid request, is an error of the server's one
  form, and ends the connection.
- A request with two framings, which two servers in a row could read differently, is refused.
- No upgrade to HTTP/2 is offered.
"""

from typing import Any, cast

import h11
import trio

from llmactors.errors import LlmactorsError
from llmactors.http.answer_note import AnswerNote
from llmactors.http.begun_response import BegunResponse, new_connection, next_cycle
from llmactors.http.date_header import date_header
from llmactors.http.http_stream import Headers, HttpStream
from llmactors.http.inbox import Application, ApplicationTasks
from llmactors.http.protocol_settings import Address, ConnectionOutput, ProtocolSettings
from llmactors.http.request_head import HeadBounds, head_of, is_websocket_handshake, origin_form
from llmactors.http.websocket_stream import WebSocketStream
from llmactors.http.write_records import BEGUN, CLOSE, COMPLETE, INTERIM, SOCKET

READ_AT_ONCE = 16 * 1024
"""The bytes that are parsed before other tasks run."""
EVENTS_AT_ONCE = 32
"""The number of chunks of a body that are handled before other tasks run."""
_VERSIONS = {b"1.0", b"1.1"}
_FRAMINGS = {b"content-length", b"transfer-encoding"}
_SWITCHING = 101
_CLOSE = (b"connection", b"close")
_UNFINISHED = {h11.SEND_BODY, h11.ERROR}
"""States of a client that has more to send, or may have."""
_MESSAGES = {
    431: "the request head is too large",
    505: "HTTP/1.1 is what is understood here",
    501: "this transfer encoding is not implemented",
}


class Http1:
    """The protocol of one connection.

    Args:
        client: The address of the client; None on a Unix socket.
        server: The address that the client connected to.
    """

    def __init__(
        self,
        app: Application,
        settings: ProtocolSettings,
        tasks: ApplicationTasks,
        output: ConnectionOutput,
        client: Address,
        server: Address,
    ) -> None:
        self.connection_state: dict[str, Any] = {}
        """What every request of this connection finds in its ASGI scope under `state`."""
        self.stream: HttpStream | WebSocketStream | None = None
        self.may_continue_body = False
        self._connection: h11.Connection | BegunResponse = new_connection()
        self.connection_state["unfinished"] = settings.unfinished
        self._head_bounds = HeadBounds()
        self._serves_one_request = False
        self._head_refused = False
        """Whether a head was refused for its length, and so was not read to its end."""
        self._unfed = 0
        """The number of received bytes that h11 has not been given."""
        self._handled = 0
        """The number of chunks of bodies that were handled."""
        self._upgraded = False
        """Whether the connection is a WebSocket's. A WebSocket's connection is never used for another request."""
        self._app = app
        self._settings = settings
        self._tasks = tasks
        self._output = output
        self.client = client
        self._server = server
        self._may_read = trio.Event()
        """Set when the next request of a pipeline may be handled."""
        self._client_closed_socket = False
        self._refusal = b""
        """The beginning of the refusal of a WebSocket's handshake."""

    def __repr__(self) -> str:
        return f"<Http1 {self._connection.their_state}/{self._connection.our_state} {self.stream}>"

    @property
    def client_may_be_sending(self) -> bool:
        """Whether the client may still be sending what belongs to a request that was answered."""
        if self._client_closed_socket:
            return False
        unfinished = self._upgraded or self._head_refused or self._client_unfinished
        return unfinished or bool(self._connection.trailing_data[0])

    @property
    def _client_unfinished(self) -> bool:
        return self._connection.their_state in _UNFINISHED

    def restrict(self, refusal: LlmactorsError) -> None:
        """Ends the connection after one request, which the application may refuse with `refusal`."""
        self._serves_one_request = True
        self.connection_state["refusal"] = refusal

    @property
    def unread_bytes(self) -> int:
        """The number of received bytes that belong to no request yet, or to the next one."""
        return len(self._connection.trailing_data[0]) + self._unfed

    @property
    def progress(self) -> int:
        """How far the response has come with the bytes that were made last: `INTERIM`, `BEGUN`, or `COMPLETE`, with
        `CLOSE` where the connection takes no further request; or `SOCKET`. Source: `write_records`.
        """
        ours = self._connection.our_state
        if ours is h11.SWITCHED_PROTOCOL:
            return SOCKET
        if ours is h11.SEND_BODY:
            return BEGUN
        if ours in {h11.IDLE, h11.SEND_RESPONSE}:
            return INTERIM
        goes_on = ours is h11.DONE and self._connection.their_state is h11.DONE and not self._serves_one_request
        return COMPLETE if goes_on else COMPLETE | CLOSE

    @property
    def takes_another(self) -> bool | None:
        """Whether the connection takes another request behind the response that has begun; None where the request was
        not read whole, or no response has begun.
        """
        theirs = self._connection.their_state
        if self._connection.our_state is not h11.SEND_BODY or theirs not in {h11.DONE, h11.MUST_CLOSE}:
            return None
        return theirs is h11.DONE and not self._serves_one_request

    def go_on(self, begun: AnswerNote, application: Application) -> None:
        """Goes on amid the body of a response that an earlier process began. `application` has the rest of the body."""
        self._connection = BegunResponse(takes_another=begun.takes_another)
        self._output.set_idle(idle=False)
        self.stream = HttpStream(self)
        self.stream.go_on(application, self._tasks, begun.method, begun.path, self._about())

    def _about(self) -> dict[str, Any]:
        """The entries of an ASGI scope that the connection knows."""
        return {"client": self.client, "server": self._server, "state": self.connection_state.copy()}

    # What the client says.

    async def received(self, data: bytes) -> None:
        """Takes bytes from the client. No bytes: the client sends no more."""
        if self._upgraded:
            await self._socket_received(data)
            return
        if self._connection.their_state is h11.IDLE and self._head_bounds.exceeded_by(data):
            await self._refuse_head()
            return
        for at in range(0, max(len(data), 1), READ_AT_ONCE):
            if at:
                await trio.lowlevel.checkpoint()
            self._unfed = max(0, len(data) - at - READ_AT_ONCE)
            self._connection.receive_data(data[at : at + READ_AT_ONCE])
            if not await self._handle_events():
                return

    async def _handle_events(self) -> bool:
        """Handles the client's events up to now. Returns False if nothing more is wanted from the client."""
        while (event := await self._next_event()) is not None:
            if isinstance(event, h11.Request):
                self._output.set_idle(idle=False)
                await self._begin(event)
            elif not isinstance(self.stream, HttpStream):
                return False
            elif isinstance(event, h11.Data):
                await self.stream.received(bytes(event.data))
                # Only here, where the request is not read whole: behind its end, the exchange could be over meanwhile,
                # and what follows in a pipeline would be left unread.
                self._handled += 1
                if self._handled % EVENTS_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
            elif isinstance(event, h11.EndOfMessage):
                await self.stream.received_all()
        return True

    async def client_ended(self) -> bool:
        """The client sends no more. Returns whether it may still read the response to a request that it has sent."""
        if not isinstance(self.stream, HttpStream) or self._client_unfinished:
            return False
        await self.stream.client_ended()
        return True

    async def closed(self) -> None:
        """The protocol learns that the connection has ended."""
        await self._close_stream()

    async def _socket_received(self, data: bytes) -> None:
        if data and isinstance(self.stream, WebSocketStream):
            await self.stream.received(data)

    async def _next_event(self) -> Any:
        """The next event of the client's; None where more bytes are needed, or no more are wanted."""
        while not self._upgraded:
            if self._connection.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[*date_header()])
                await self.write(self._rendered(go_on))
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError as error:
                # The traceback of an error of h11 refers to the error. Only the garbage collector could free both, and
                # the connection with them.
                error.__traceback__ = None
                await self._refuse_and_end(error.error_status_hint)
                return None
            if event is h11.PAUSED and self._connection.trailing_data[0]:
                self._may_read = trio.Event()
                await self._output.wait_aside(self._may_read)
                if self._head_bounds.exceeded_by(self._connection.trailing_data[0]):
                    await self._refuse_head()
                    return None
            elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return None
            else:
                return event
        return None

    async def _begin(self, request: h11.Request) -> None:
        names = {name for name, _ in request.headers}
        refused = 505 if request.http_version not in _VERSIONS else 400 if names >= _FRAMINGS else None
        if refused is not None:
            await self._refuse_and_end(refused, with_body=request.method != b"HEAD")
        elif is_websocket_handshake(request):
            await self._begin_websocket(request)
        else:
            self.stream = HttpStream(self)
            about = self._about()
            self.connection_state.pop("arrived", None)  # the next request of a pipeline arrived at another time
            await self.stream.begin(self._app, self._tasks, request, origin_form(request.target), about)

    async def _begin_websocket(self, request: h11.Request) -> None:
        self._upgraded = True
        held = self.connection_state.get("held")
        self.stream = stream = WebSocketStream(
            self._app,
            self._tasks,
            self,
            client=self.client,
            server=self._server,
            max_message_bytes=self._settings.max_message_bytes,
            unfinished=self._settings.unfinished,
            held=None if held is None else held.begin_websocket(head_of(request)),
            error_response=self._settings.error_response,
        )
        await stream.begin(request, origin_form(request.target), self.connection_state)
        await self._socket_received(self._connection.trailing_data[0])

    # What an exchange says. See `http_stream.Machine` and `websocket_stream.SocketOutput`.

    def head(self, status: int, headers: Headers) -> bytes:
        """The bytes that begin a response."""
        last = (_CLOSE,) if self._is_last_response() else ()
        return self._rendered(h11.Response(status_code=status, headers=[*headers, *last, *date_header()]))

    def piece(self, data: bytes) -> bytes:
        """The bytes of a part of a response's body."""
        return self._rendered(h11.Data(data=data))

    def end(self) -> bytes:
        """The bytes that end a response's body."""
        return self._rendered(h11.EndOfMessage())

    async def write(self, data: bytes) -> None:
        """Sends bytes to the client, or drops them if the client is gone."""
        await self._output.write(data)

    async def exchange_over(self) -> None:
        """Makes ready for the next exchange if this one is complete, and else ends the connection."""
        await self._close_stream()
        connection = self._connection
        complete = not self._upgraded and connection.our_state is h11.DONE and connection.their_state is h11.DONE
        if complete and not self._serves_one_request and not self._settings.draining():
            self._connection = next_cycle(connection)
            self._head_bounds = HeadBounds()
            self._may_read.set()
            self._output.set_idle(idle=True)
        else:
            self._may_read.set()
            await self._output.end()

    async def refuse(self, status: int, *, with_body: bool = True) -> None:
        """Answers what no application has answered. The connection ends with this response."""
        message = _MESSAGES.get(status, "this is not a valid HTTP request")
        headers, body = self._settings.error_response(status, message)
        data = self._rendered(h11.Response(status_code=status, headers=[*headers, _CLOSE, *date_header()]))
        if with_body:
            data += self.piece(body)
        await self.write(data + self.end())

    async def _refuse_and_end(self, status: int, *, with_body: bool = True) -> None:
        """Ends the connection, with an error response if no response has begun."""
        if self._connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            await self.refuse(status, with_body=with_body)
        await self._output.end()
        await self.closed()

    async def _refuse_head(self) -> None:
        self._head_refused = True
        await self._refuse_and_end(431)

    async def answer_handshake(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Sends the head of the response to a WebSocket's handshake."""
        if status == _SWITCHING:
            accepts = h11.InformationalResponse(status_code=status, headers=[*headers, *date_header()])
            await self.write(self._rendered(accepts))
        else:
            # The whole refusal is one write: a process that takes the connection over could not go on within it.
            refuses = h11.Response(status_code=status, headers=[*headers, *date_header(), _CLOSE])
            self._refusal = self._rendered(refuses)

    async def write_body(self, data: bytes) -> None:
        """Adds a part to the body of a refused handshake."""
        self._refusal += self.piece(data)

    async def end_body(self) -> None:
        """Sends the refusal of a handshake."""
        await self.write(self._refusal + self.end())

    def _rendered(self, event: h11.Event) -> bytes:
        try:
            return self._connection.send(cast("Any", event)) or b""
        except h11.LocalProtocolError:
            if self._connection.their_state is not h11.ERROR:
                raise
            return b""  # what the client has sent is no HTTP, and nothing more is said to it

    def _is_last_response(self) -> bool:
        # The rest of a body that was not read whole before the response will not be read.
        return self._client_unfinished or self._serves_one_request or self._settings.draining()

    async def _close_stream(self) -> None:
        stream, self.stream = self.stream, None
        self.may_continue_body = False
        if isinstance(stream, WebSocketStream):
            self._client_closed_socket = stream.client_closed
        if stream is not None:
            await stream.client_gone()
