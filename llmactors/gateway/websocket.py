"""One WebSocket: many requests on one socket, each followed by a task of its own.

The client sends `{"op":"generate", …}`, `{"op":"attach","id","after"}` or `{"op":"cancel","id"}`, each with an optional
`"ref"` that the answer to it carries. The answers:

    generate   {"event":"accepted","id"}, and then the same events as over SSE
    attach     the same; {"event":"ended","id"} where nothing comes after `after`
    cancel     {"event":"cancelled","id","cancelled"}
    mistakes   {"event":"error","error"}
"""

import time
from typing import Any

import msgspec
import structlog
import trio
from quart import Websocket

from llmactors.errors import InternalError, InvalidRequest, LlmactorsError, Overloaded
from llmactors.gateway.auth import Caller
from llmactors.gateway.events import JsonRenderer
from llmactors.gateway.pump import pump
from llmactors.gateway.schema import AttachOp, CancelOp, GenerateBody, convert, parse_object
from llmactors.gateway.service import Service, cut_error
from llmactors.ledger import Follower, LogSlice
from llmactors.messages import Failed

log = structlog.get_logger("llmactors.gateway")


class SocketSession:
    """The life of one WebSocket."""

    def __init__(self, service: Service, caller: Caller, socket: Websocket) -> None:
        self._service = service
        self._caller = caller
        self._socket = socket
        self._streams = 0

    def __repr__(self) -> str:
        return f"<SocketSession {self._caller.tenant} streams={self._streams}>"

    async def run(self) -> None:
        """Until the client closes, or is gone. Its streams then live on for their grace."""
        await self._socket.accept()
        async with trio.open_nursery() as nursery:
            while True:
                await self._handle(await self._socket.receive(), nursery)

    async def _handle(self, raw: bytes | str, nursery: trio.Nursery) -> None:
        ref: object = None
        begun = time.perf_counter()
        self._service.metrics.request_started()
        status, code = 200, None
        try:
            fields = parse_object(raw)
            ref = fields.pop("ref", None)
            await self._dispatch(fields.pop("op", None), fields, ref, nursery)
        except LlmactorsError as error:
            status, code = error.status, error.code
            await self._say_error(error, ref)
        except Exception as error:
            log.exception("websocket message failed", exc_info=error)
            status, code = 500, "INTERNAL"
            await self._say_error(InternalError("internal error"), ref)
        finally:
            self._service.metrics.request_finished(status, time.perf_counter() - begun, code)

    async def _dispatch(self, op: object, fields: dict[str, Any], ref: object, nursery: trio.Nursery) -> None:
        match op:
            case "generate":
                self._check_room()
                fields.pop("stream", None)  # here everything streams
                admission = await self._service.admit(self._caller, convert(fields, GenerateBody))
                follower = await self._service.own_follower(admission)
                await self._begin(follower, admission.request.id, ref, nursery)
            case "attach":
                self._check_room()
                attach = convert(fields, AttachOp)
                found = await self._service.follow(self._caller, attach.id, attach.after)
                if found is None:
                    await self._say({"event": "ended", "id": attach.id}, ref)
                else:
                    await self._begin(found, attach.id, ref, nursery)
            case "cancel":
                cancel = convert(fields, CancelOp)
                was_running = await self._service.cancel(self._caller, cancel.id)
                await self._say({"event": "cancelled", "id": cancel.id, "cancelled": was_running}, ref)
            case _:
                raise InvalidRequest('`op` must be one of "generate", "attach", "cancel"')

    def _check_room(self) -> None:
        limit = self._service.settings.max_socket_streams
        if self._streams >= limit:
            raise Overloaded(f"this socket follows {limit} streams already; wait for one to end", retry_after_s=1.0)

    async def _begin(self, follower: Follower, request_id: str, ref: object, nursery: trio.Nursery) -> None:
        self._streams += 1
        # Entered here, not in the task: from the admission on, the request must count as read.
        follower.__enter__()
        try:
            await self._say({"event": "accepted", "id": request_id}, ref)
        except BaseException:
            follower.__exit__(None, None, None)
            self._streams -= 1
            raise
        nursery.start_soon(self._follow, follower, request_id)

    async def _follow(self, follower: Follower, request_id: str) -> None:
        render = JsonRenderer(request_id).render
        metrics = self._service.metrics

        async def write(part: LogSlice) -> None:
            for text in render(part):
                await self._socket.send(text)
            metrics.tokens_generated(len(part.deltas))

        async def keep_alive() -> None:
            """The server pings every socket by itself."""

        try:
            with self._service.cuttable() as scope:
                last = await pump(follower, write, keep_alive, self._service.settings.pace)
                if isinstance(last.end, Failed):
                    log.info("stream failed", request_id=request_id, code=last.end.code)
            if scope.cancelled_caught:
                await self._say_error(cut_error(), None, request_id)
        except LlmactorsError as error:
            await self._say_error(error, None, request_id)
        finally:
            follower.__exit__(None, None, None)
            self._streams -= 1

    async def _say_error(self, error: LlmactorsError, ref: object, request_id: str | None = None) -> None:
        payload: dict[str, Any] = {"event": "error", "error": {"code": error.code, "message": error.message}}
        if error.retry_after_s is not None:
            payload["error"]["retry_after_ms"] = round(error.retry_after_s * 1000)
        if request_id is not None:
            payload["id"] = request_id
        await self._say(payload, ref)

    async def _say(self, payload: dict[str, Any], ref: object) -> None:
        if ref is not None:
            payload["ref"] = ref
        await self._socket.send(msgspec.json.encode(payload).decode())
