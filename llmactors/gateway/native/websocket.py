"""One WebSocket: many streams on one socket, each with a task of its own.

The client sends `{"op":"generate", …}`, `{"op":"attach","id","after"}` or `{"op":"cancel","id"}`, each with an optional
`"ref"`, which the reply repeats. The replies:

    generate   {"event":"accepted","id"}, and then the same events as over SSE, `queued` among them
    attach     the same; {"event":"ended","id"} where no event comes after `after`
    cancel     {"event":"cancelled","id","cancelled"}
    mistakes   {"event":"error","error"}
"""

import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import structlog
import trio

from llmactors.access.authentication import Caller
from llmactors.actors import fatal
from llmactors.errors import InternalError, InvalidRequest, LlmactorsError, Overloaded, Unavailable
from llmactors.gateway.access_log import AccessEntry
from llmactors.gateway.admitted_calls import Admission
from llmactors.gateway.body import convert
from llmactors.gateway.errors import error_fields
from llmactors.gateway.limit_reached import LimitReached
from llmactors.gateway.native.events import JsonRenderer
from llmactors.gateway.native.followed_streams import FollowedStream, FollowedStreams
from llmactors.gateway.native.schema import AttachOp, CancelOp, GenerateBody
from llmactors.gateway.queue_places import QueueStanding
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.request_trace import RequestTrace, begin_trace
from llmactors.gateway.streaming.pump import pump
from llmactors.http.exchange import Header, Message, Receive, Scope, Send, client_address, wire_headers
from llmactors.http.held_websocket import HeldMessage, HeldWebSocket
from llmactors.http.request_id import new_request_id
from llmactors.ledger import Follower, LogSlice
from llmactors.messages import Failed

log = structlog.get_logger("llmactors.gateway")

GOING_AWAY = 1001
"""The close code of a server that shuts down. RFC 6455, section 7.4.1."""

POLICY_VIOLATION = 1008
"""The close code of a server that refuses to go on with this client. RFC 6455, section 7.4.1."""

CLOSE_S = 1.0
"""The time in which a client must answer a close frame."""

Refused = Callable[[], Awaitable[None]]
"""Returns once the caller's key is not valid any more."""
SocketHandler = Callable[[RequestService, Caller, Scope, Receive, Send, list[Header], Refused], Awaitable[None]]
"""Takes the caller, the handshake, the socket, the headers of the answer to the handshake, and `Refused`."""


async def serve_socket(
    service: RequestService,
    caller: Caller,
    scope: Scope,
    receive: Receive,
    send: Send,
    headers: list[Header],
    refused: Refused,
) -> None:
    """Serves one WebSocket to its end. `headers` go with the response to the handshake."""
    await SocketSession(service, caller, scope, receive, send, refused).run(headers)


async def refuse_to_go_on(send: Send, reason: str) -> None:
    """Closes a WebSocket whose handshake an earlier gateway accepted."""
    await send({"type": "websocket.accept"})  # the client has the response
    await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason})


def held_websocket(scope: Scope) -> HeldWebSocket | None:
    """What the WebSocket with this handshake leaves to a later process; None where it ends with this process."""
    held = scope.get("state", {}).get("held")
    return None if held is None else held.websocket


class SocketSession:
    """One WebSocket, over plain ASGI. `receive` has already given `websocket.connect`."""

    def __init__(
        self,
        service: RequestService,
        caller: Caller,
        scope: Scope,
        receive: Receive,
        send: Send,
        refused: Callable[[], Awaitable[None]] = trio.sleep_forever,
    ) -> None:
        self._service = service
        self._wait_refused = refused
        self._refused = False
        self._caller = caller
        self._scope = scope
        self._client = client_address(scope)
        self._traces: dict[str, RequestTrace] = {}
        """The traces of the requests that this socket asked for, by request."""
        self._receive = receive
        self._send = send
        self._followed = FollowedStreams(held_websocket(scope))
        self._streams = 0
        self._quiet = trio.Event()
        """Set while no stream is followed."""
        self._quiet.set()
        self._closing = False
        self._standings: dict[str, str] = {}
        """The `queued` events that are to be sent, by request."""
        self._has_standings = trio.Event()

    def __repr__(self) -> str:
        return f"<SocketSession {self._caller.tenant} streams={self._streams}>"

    async def run(self, headers: list[Header]) -> None:
        """Serves until the client disconnects, the node has drained, or the caller's key is not valid any more.

        Streams of a client that has disconnected live on for their grace. `headers` go with the response to the
        handshake.
        """
        await self._send({"type": "websocket.accept", "headers": wire_headers(headers)})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._close_when_drained, nursery)
            nursery.start_soon(self._end_when_refused, nursery)
            nursery.start_soon(self._send_standings)
            for stream in self._followed.given():
                self._count_stream()
                nursery.start_soon(self._go_on_following, stream)
            while (message := await self._receive())["type"] != "websocket.disconnect":
                if not self._closing:
                    await self._handle(message, nursery)
            nursery.cancel_scope.cancel(reason="the client is gone")
        if self._refused:
            await self._close(POLICY_VIOLATION, "the API key is not valid any more")

    async def _end_when_refused(self, nursery: trio.Nursery) -> None:
        await self._wait_refused()
        self._refused = True
        nursery.cancel_scope.cancel(reason="the caller's key is not valid any more")

    def _note_standing(self, renderer: JsonRenderer, request_id: str, standing: QueueStanding) -> None:
        self._standings[request_id] = renderer.render_standing(standing)
        self._has_standings.set()

    async def _send_standings(self) -> None:
        while True:
            await self._has_standings.wait()
            self._has_standings = trio.Event()
            while self._standings and not self._closing:
                text = self._standings.pop(next(iter(self._standings)))
                await self._send({"type": "websocket.send", "text": text})

    async def _close(self, code: int, reason: str) -> None:
        """Sends a close frame, and waits for the client's own for `CLOSE_S`."""
        with trio.move_on_after(CLOSE_S):
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
            while (await self._receive())["type"] != "websocket.disconnect":
                pass

    async def _close_when_drained(self, nursery: trio.Nursery) -> None:
        await self._service.wait_draining()
        while self._streams:
            await self._quiet.wait()
        self._closing = True
        await self._send({"type": "websocket.close", "code": GOING_AWAY, "reason": "the node is shutting down"})
        await trio.sleep(CLOSE_S)
        nursery.cancel_scope.cancel(reason="the node is shutting down")

    async def _handle(self, message: Message, nursery: trio.Nursery) -> None:
        metrics = self._service.metrics
        begun = trio.current_time()
        metrics.request_started()
        ref: object = None
        held: HeldMessage | None = message.get("held")
        status, code, follows = 499, None, False
        try:
            fields = await self._fields(message)
            ref = fields.pop("ref", None)
            follows = await self._dispatch(fields.pop("op", None), fields, ref, held, begun, nursery)
            status = 200
        except LlmactorsError as error:
            status, code = error.status, error.code
            self._followed.reply(held)
            await self._say_error(error, ref)
        except Exception as error:
            if fatal(error) is not None:
                raise
            log.exception("websocket message failed", exc_info=error)
            status, code = InternalError.status, InternalError.code
            self._followed.reply(held)
            await self._say_error(InternalError("internal error"), ref)
        finally:
            if not follows:
                metrics.request_finished(status, trio.current_time() - begun, code)
                await self._log(new_request_id(), "", status, code, begun)

    async def _dispatch(
        self,
        op: object,
        fields: dict[str, Any],
        ref: object,
        held: HeldMessage | None,
        begun: float,
        nursery: trio.Nursery,
    ) -> bool:
        """Handles one message. True if a stream is followed now; then the stream's end counts the request as
        finished.
        """
        after = 0
        match op:
            case "generate":
                self._check_streams()
                fields.pop("stream", None)  # every answer on a WebSocket is a stream
                admission = await self._admit(convert(fields, GenerateBody), held, begun)
                request_id, model = admission.request.id, admission.request.model
                follower: Follower | None = await self._service.own_follower(admission)
            case "attach":
                self._check_streams()
                attach = convert(fields, AttachOp)
                request_id, after = attach.id, attach.after
                info, follower = await self._service.follow(self._caller, request_id, after)
                model = info.request.model
            case "cancel":
                cancel = convert(fields, CancelOp)
                was_running = await self._service.cancel(self._caller, cancel.id, held)
                self._followed.reply(held)
                await self._say({"event": "cancelled", "id": cancel.id, "cancelled": was_running}, ref)
                return False
            case _:
                raise InvalidRequest('`op` must be one of "generate", "attach", "cancel"')
        if follower is None:
            self._followed.reply(held)
            await self._say({"event": "ended", "id": request_id}, ref)
            return False
        # Entered before the task starts: from its admission on, a request must have a reader.
        with contextlib.ExitStack() as reading:
            reading.enter_context(follower)
            self._followed.reply(held)
            stream = self._followed.begin(request_id, after, is_new=op == "generate")
            await self._say({"event": "accepted", "id": request_id}, ref)
            self._count_stream()
            times_from = begun if stream.is_new else None
            nursery.start_soon(self._follow, follower, reading.pop_all(), stream, model, begun, times_from)
        return True

    def _count_stream(self) -> None:
        self._streams += 1
        self._quiet = trio.Event()

    def _uncount_stream(self) -> None:
        self._streams -= 1
        if not self._streams:
            self._quiet.set()

    async def _go_on_following(self, stream: FollowedStream) -> None:
        """Follows a stream that an earlier gateway has followed for this WebSocket."""
        begun = trio.current_time()
        follow = partial(self._service.follow, self._caller, stream.request_id, stream.seq)
        try:
            with self._service.cuttable():
                info, follower = await self._service.outages.through(follow)
            if follower is None:
                raise Unavailable("the log of this answer was lost")
        except LlmactorsError as error:
            self._followed.end(stream)
            await self._say_error(error, None, stream.request_id)
            self._uncount_stream()
            return
        self._service.metrics.request_started()  # `_follow` says when it has finished
        with contextlib.ExitStack() as reading:
            reading.enter_context(follower)
            await self._follow(follower, reading.pop_all(), stream, info.request.model, begun, None)

    async def _admit(self, body: GenerateBody, held: HeldMessage | None, begun: float) -> Admission:
        tracer = self._service.tracer
        trace = None if tracer is None else begin_trace(tracer, self._scope, begun)
        try:
            admission = await self._service.admit(self._caller, body, trace=trace, held=held)
        except LlmactorsError as error:
            if trace is not None:
                trace.end(error.status, error.code)
            raise
        if trace is not None:
            self._traces[admission.request.id] = trace
        return admission

    async def _fields(self, message: Message) -> dict[str, Any]:
        if message.get("bytes") is not None:
            raise InvalidRequest("send text messages; binary messages are not understood here")
        return await self._service.bodies.parse(message["text"], what="the message")

    def _check_streams(self) -> None:
        limit = self._service.settings.max_socket_streams
        if self._streams >= limit:
            raise Overloaded(
                f"this socket follows {limit} streams already; wait until one of them has ended", retry_after_s=1.0
            )

    async def _follow(
        self,
        follower: Follower,
        reading: contextlib.ExitStack,
        stream: FollowedStream,
        model: str,
        begun: float,
        times_from: float | None,
    ) -> None:
        """Sends the events of a stream. `times_from` is the time from which its first token is measured, if it is."""
        request_id, is_new = stream.request_id, stream.is_new
        renderer = JsonRenderer(request_id)
        watch = self._service.places.watch(request_id, partial(self._note_standing, renderer, request_id))
        metrics = self._service.metrics
        code: str | None = None
        times = metrics.models.answers(model).stream(times_from)

        async def write(part: LogSlice) -> None:
            nonlocal code
            if isinstance(part.end, Failed):
                code = part.end.code
            watch.quiet_since = trio.current_time()
            self._standings.pop(request_id, None)  # the request waits no more
            for seq, text in enumerate(renderer.render(part), part.first_seq):
                if part.end is not None and seq == part.end_seq:
                    self._followed.end(stream)
                else:
                    self._followed.reach(stream, seq)
                await self._send({"type": "websocket.send", "text": text})
            if part.deltas:
                metrics.tokens_generated(len(part.deltas))
                times.wrote(len(part.deltas), trio.current_time())

        async def keep_alive() -> None:
            """Does nothing: the server pings every WebSocket."""

        try:
            with self._service.cuttable():
                await pump(follower, write, keep_alive, self._service.settings.timing)
        except LlmactorsError as error:
            code = error.code
            self._followed.end(stream)
            await self._say_error(error, None, request_id)
        finally:
            self._service.places.drop(watch)
            self._standings.pop(request_id, None)
            reading.close()
            metrics.request_finished(200, trio.current_time() - begun, code, model if is_new else "")
            if is_new and (trace := self._traces.pop(request_id, None)) is not None:
                trace.end(200, code)
            self._uncount_stream()
            await self._log(request_id, model, 200, code, begun, times.ttft())

    async def _log(
        self, request_id: str, model: str, status: int, code: str | None, begun: float, ttft_s: float | None = None
    ) -> None:
        """Tells the access log of a message that was answered, or of a stream that has ended."""
        access_log = self._service.access_log
        if access_log.takes(code):
            entry = AccessEntry(
                request_id=request_id,
                client=self._client,
                caller=self._caller,
                method="WS",
                path="/v1/ws",
                route="/v1/ws",
                model=model,
                status=status,
                code=code,
                seconds=trio.current_time() - begun,
                ttft_s=ttft_s,
            )
            await access_log.note(entry)

    async def _say_error(self, error: LlmactorsError, ref: object, request_id: str | None = None) -> None:
        payload: dict[str, Any] = {"event": "error", "error": error_fields(error)}
        if error.retry_after_s is not None:
            payload["error"]["retry_after_ms"] = round(error.retry_after_s * 1000)
        if isinstance(error, LimitReached):
            payload["error"]["limit"] = error.limit.value
        if request_id is not None:
            payload["id"] = request_id
        await self._say(payload, ref)

    async def _say(self, payload: dict[str, Any], ref: object) -> None:
        if self._closing:
            return
        if ref is not None:
            payload["ref"] = ref
        await self._send({"type": "websocket.send", "text": msgspec.json.encode(payload).decode()})
