"""`POST /v1/generate`, and `GET` and `DELETE /v1/streams/{id}`."""

from collections.abc import Sequence

from llmactors.access.authentication import Caller
from llmactors.errors import InvalidRequest, LlmactorsError, from_code
from llmactors.gateway.admitted_calls import Admission
from llmactors.gateway.answering_model import answering_model
from llmactors.gateway.body import convert, deadline_of
from llmactors.gateway.conversation_key import session_of
from llmactors.gateway.native.events import SseRenderer, render_cut, usage_object
from llmactors.gateway.native.schema import BodyWithDeadline, GenerateBody
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.streaming.begun_stream import BegunStream, note_stream
from llmactors.gateway.streaming.sse_stream import SSE_HEADERS, SSE_TYPE, SseStream
from llmactors.http.exchange import Exchange, Header
from llmactors.ledger import Follower
from llmactors.messages import Failed, Finished
from llmactors.telemetry.model_metrics import StreamTimes


async def generate(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`POST /v1/generate`: JSON, or SSE with `"stream": true`.

    A client that sends the same call again after it lost its stream, with the same `Idempotency-Key` and with
    `Last-Event-ID`, gets the events after that one. Without an idempotency key the call is a new request.
    """
    body = convert(await service.bodies.read(exchange), GenerateBody)
    deadline_ms = deadline_of(exchange.header(b"x-request-deadline"))
    asked = body if deadline_ms is None else BodyWithDeadline(body, deadline_ms)
    key = exchange.idempotency_key
    after = _sequence_number(exchange.header(b"last-event-id")) if body.stream and key is not None else 0
    admission = await service.admit(
        caller,
        asked,
        key,
        only_known=after > 0,
        session=session_of(exchange),
        trace=service.trace(exchange),
        held=exchange.held,
    )
    exchange.request_id, exchange.model = admission.request.id, admission.request.model
    follower = (await service.follow(caller, admission.request.id, after))[1] if after else None
    if after and follower is None:
        # The status is not 204 as in `follow`: a script reads a stream to its end, and takes any other answer for a
        # failure.
        await exchange.start(200, SSE_HEADERS, SSE_TYPE)
        await exchange.write(b"", more=False)
        return
    with follower or await service.own_follower(admission) as follower:
        if body.stream:
            goes_on = after or exchange.reached
            times = service.metrics.models.answers(exchange.model).stream(None if goes_on else exchange.begun)
            await _stream(service, exchange, follower, times, admission.headers)
        else:
            await _whole(service, exchange, follower, admission)


async def cancel(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`DELETE /v1/streams/{id}`: ends a stream."""
    request_id = exchange.parameters["id"]
    was_running = await service.cancel(caller, request_id, exchange.held)
    await exchange.answer(200, {"id": request_id, "cancelled": was_running})


async def follow(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`GET /v1/streams/{id}`: the events after `Last-Event-ID` or `?after=`, whichever is later.

    With `?status` the state of the stream is answered, and not its events.

    An `EventSource` that reconnects sends both: its URL stays as it was, and the header names the last event.
    """
    request_id = exchange.parameters["id"]
    after, asks_status = _query(exchange)
    if asks_status:
        await _show_status(service, exchange, caller, request_id)
        return
    info, follower = await service.follow(caller, request_id, after)
    exchange.request_id = request_id
    if follower is None:
        # A browser's EventSource understands 204 as: the stream is over, do not reconnect.
        await exchange.empty(204)
        return
    with follower:
        model = info.request.model
        await _stream(service, exchange, follower, service.metrics.models.answers(model).stream(None), followed=model)


async def go_on(service: RequestService, exchange: Exchange, begun: BegunStream) -> None:
    """Sends the rest of a stream that an earlier gateway began."""
    times = service.metrics.models.answers(begun.note.model).stream(None)
    with begun.follower:
        await _stream(service, exchange, begun.follower, times, has_begun=bool(begun.had.deltas))


async def _show_status(service: RequestService, exchange: Exchange, caller: Caller, request_id: str) -> None:
    info = await service.info(caller, request_id)
    standing = await service.places.standing(request_id) if info.state == "queued" else None
    has_ended = info.state == "ended"
    status = {
        "id": request_id,
        "state": info.state,
        "place": standing and standing.place,
        "estimate_s": standing and standing.estimate_s,
        "tokens": info.last_seq - has_ended,  # the last entry of an ended log is the terminal event
        "attempts": info.attempt,
    }
    await exchange.answer(200, status, [("cache-control", "no-store")])


def _query(exchange: Exchange) -> tuple[int, bool]:
    """The seq after which the client wants events, and whether the client asks for the state instead."""
    query = exchange.scope["query_string"].decode("latin-1")
    given = [exchange.header(b"last-event-id")]
    asks_status = False
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name == "after":
            given.append(value)
        elif name == "status":
            asks_status = True
        elif name and name != "ticket":
            raise InvalidRequest(f"unknown query parameter `{name[:40]}`; known are: after, status, ticket")
    return max(map(_sequence_number, given)), asks_status


def _sequence_number(text: str | None) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InvalidRequest("`Last-Event-ID` and `after` take the seq of an event: a whole number, 0 or more")
    return int(text)


async def _stream(
    service: RequestService,
    exchange: Exchange,
    follower: Follower,
    times: StreamTimes,
    headers: Sequence[Header] = (),
    *,
    followed: str = "",
    has_begun: bool = False,
) -> None:
    """Sends everything after the follower's cursor as SSE, until the stream ends or the client disconnects.

    `followed` is the model of a stream that the client did not ask for here. `has_begun` says whether the client has
    events of the stream, from an earlier gateway.
    """
    timing, metrics = service.settings.timing, service.metrics
    renderer = SseRenderer(exchange.request_id, has_begun=has_begun)
    sse = SseStream(exchange, follower, service.flusher, timing, metrics, renderer, times, places=service.places)

    async def follow() -> None:
        if not exchange.status:
            await exchange.start(200, [*SSE_HEADERS, *headers], SSE_TYPE)
            note_stream(exchange, followed or exchange.model, is_asked_here=not followed)
        try:
            with service.cuttable():
                await sse.run()
        except LlmactorsError as error:
            # The response has a status already. The client can follow the stream from its last event.
            exchange.code = error.code
            await exchange.write(render_cut(exchange.request_id, error), more=False)

    await exchange.while_connected(follow)


async def _whole(service: RequestService, exchange: Exchange, follower: Follower, admission: Admission) -> None:
    """Sends the answer as one JSON object. A client that disconnects before the answer cancels its request."""
    done = False
    with service.cuttable(), service.places.watched(admission.request.id) as watch:
        done = await exchange.while_connected(follower.wait_end)
    if not done:
        exchange.status = 499
        if not admission.keyed:
            await service.abandon(admission.request.id)
        return
    log = follower.take()
    service.metrics.tokens_generated(len(log.deltas))
    if isinstance(log.end, Finished):
        payload = {
            "id": admission.request.id,
            "model": answering_model(admission.request, log.deltas),
            "text": "".join(delta.text for delta in log.deltas),
            "finish_reason": log.end.reason,
            "usage": usage_object(log.end.usage),
        }
        await exchange.answer(200, payload, [*admission.headers, *watch.headers])
    elif isinstance(log.end, Failed):
        raise from_code(log.end.code, log.end.message)
