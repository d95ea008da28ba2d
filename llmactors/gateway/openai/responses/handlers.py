"""The handlers of `/v1/responses`."""

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import attrs
import msgspec
import trio

from llmactors.access.authentication import Caller
from llmactors.errors import Expired, LlmactorsError, NotFound, from_code
from llmactors.gateway.admitted_calls import Admission
from llmactors.gateway.body import deadline_of
from llmactors.gateway.conversation_key import session_of
from llmactors.gateway.openai.choices import AdmittedChoices
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.images import image_chars
from llmactors.gateway.openai.responses.events import EventRenderer
from llmactors.gateway.openai.responses.input_items import page_of
from llmactors.gateway.openai.responses.references import referred_responses, with_items
from llmactors.gateway.openai.responses.schema import ResponseBody, read_page, read_query, read_response
from llmactors.gateway.openai.responses.view import ResponseView, request_id
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.streaming.sse_stream import SSE_HEADERS, SSE_TYPE, SseStream
from llmactors.http.exchange import Exchange, Header
from llmactors.ledger import Follower
from llmactors.messages import ChatMessage, Failed, GenerateRequest
from llmactors.telemetry.model_metrics import StreamTimes

_UNREAD = "unread"
"""In place of the input of a call whose request is in the ledger, with the whole input."""


async def create(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`POST /v1/responses`."""
    body = read_response(await service.body_with_images(exchange, caller, image_chars))
    before: tuple[ChatMessage, ...] = ()
    if await service.was_admitted(caller, exchange):
        body = attrs.evolve(body, input=_UNREAD)  # what it refers to may be gone by now
    else:
        if isinstance(body.input, list) and (referred := referred_responses(body.input)):
            items = await _items(service, caller, set(referred.values()))
            body = attrs.evolve(body, input=with_items(body.input, items))
        before = await _before(service, caller, body, exchange.idempotency_key)
    choice = body.choice(
        deadline_of(exchange.header(b"x-request-deadline")),
        background_s=service.settings.background_s,
        response_ttl_s=service.settings.response_ttl_s,
        before=before,
    )
    key, session = exchange.idempotency_key, session_of(exchange, body.prompt_cache_key)
    if body.background:
        # A background response goes on without its client, so that no disconnect cancels the request.
        admission = await service.admit(
            caller, choice, key, session=session, trace=service.trace(exchange), held=exchange.held
        )
        exchange.request_id, exchange.model = admission.request.id, admission.request.model
        view = _view_of(admission.request)
        if body.stream:
            with await service.own_follower(admission) as follower:
                times = service.metrics.models.answers(exchange.model).stream(
                    None if exchange.reached else exchange.begun
                )
                await _stream(service, exchange, follower, EventRenderer(view), admission.headers, times)
            return
        # With an idempotency key, the response may belong to an earlier call, and may have ended.
        payload: object = view.object(view.first_status)
        if admission.keyed:
            payload = await _now(service, caller, view)
        await exchange.answer(200, payload, admission.headers)
        return
    async with AdmittedChoices(service) as choices:
        await choices.admit(exchange, caller, [choice], session)
        [admission], [follower] = choices.admissions, choices.followers
        view = _view_of(admission.request)
        if body.stream:
            times = service.metrics.models.answers(exchange.model).stream(None if exchange.reached else exchange.begun)
            done = await _stream(service, exchange, follower, EventRenderer(view), admission.headers, times)
        else:
            done = await _whole(service, exchange, choices, view)
        choices.answered = done


async def retrieve(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`GET /v1/responses/{id}`."""
    query = read_query(exchange.scope["query_string"].decode("latin-1"))
    with _found():
        view = await _own(service, caller, exchange.parameters["id"])
        exchange.request_id = view.request.id
        if not query.stream:
            await exchange.answer(200, await _now(service, caller, view))
            return
        follower = await service.own_follower(Admission(view.request))
    with follower:
        times = service.metrics.models.answers(view.request.model).stream(None)
        await _stream(service, exchange, follower, EventRenderer(view, query.starting_after), [], times)


async def cancel(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`POST /v1/responses/{id}/cancel`."""
    limits = service.settings
    await exchange.body(max_bytes=limits.max_body_bytes, within_s=limits.body_s)
    with _found():
        view = await _own(service, caller, exchange.parameters["id"])
        exchange.request_id = view.request.id
        await service.cancel(caller, view.request.id)
        await exchange.answer(200, await _now(service, caller, view))


async def delete(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`DELETE /v1/responses/{id}`."""
    name = exchange.parameters["id"]
    try:
        with _found():
            view = await _own(service, caller, name)
            exchange.request_id = view.request.id
            await service.forget(caller, view.request.id)
    except NotFound:
        if exchange.held is None or not exchange.held.is_repeated:
            raise
        # An earlier gateway may have deleted it, and has not said so.
        exchange.request_id = request_id(name) or exchange.request_id
    await exchange.answer(200, {"id": name, "object": "response", "deleted": True})


async def list_input_items(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`GET /v1/responses/{id}/input_items`."""
    page = read_page(exchange.scope["query_string"].decode("latin-1"))
    with _found():
        view = await _own(service, caller, exchange.parameters["id"])
    exchange.request_id = view.request.id
    await exchange.answer(200, page_of(view, page))


async def refuse_unserved(_service: RequestService, _exchange: Exchange, _caller: Caller) -> None:
    """Refuses a route of OpenAI's API that is not served. Otherwise the path's last part would be taken for a
    response's id.
    """
    raise NotFound("this route of OpenAI's API is not served here")


async def _whole(service: RequestService, exchange: Exchange, choices: AdmittedChoices, view: ResponseView) -> bool:
    """Sends the whole response. Returns whether the client was still connected."""
    [follower] = choices.followers
    connected = False
    with service.cuttable():
        connected = await exchange.while_connected(follower.wait_end)
    if not connected:
        exchange.status = 499
        return False
    log = follower.take()
    service.metrics.tokens_generated(len(log.deltas))
    choices.answered = True
    if isinstance(log.end, Failed):
        raise from_code(log.end.code, log.end.message)
    payload = await service.whole_answers.encode(partial(view.now, "ended", log), [view.request], [log])
    await exchange.answer(200, payload, choices.headers)
    return True


async def _stream(
    service: RequestService,
    exchange: Exchange,
    follower: Follower,
    renderer: EventRenderer,
    headers: list[Header],
    times: StreamTimes,
) -> bool:
    """Sends the events. Returns whether the client got all of them. The follower is at the log's beginning."""
    timing, metrics = service.settings.timing, service.metrics
    sse = SseStream(exchange, follower, service.flusher, timing, metrics, renderer, times)
    ended = False

    async def follow() -> None:
        nonlocal ended
        await exchange.start(200, [*SSE_HEADERS, *headers], SSE_TYPE)
        try:
            if not exchange.reached:
                # The client must know the id of the response before anything can fail.
                if exchange.reached is not None:
                    await exchange.resume()
                exchange.note_reached(b"0")
                await exchange.write(renderer.begin())
            with service.cuttable():
                await sse.run()
            ended = True
        except LlmactorsError as error:
            exchange.code = error.code
            await exchange.write(renderer.render_cut(error), more=False)

    return await exchange.while_connected(follow) and ended


async def _own(service: RequestService, caller: Caller, name: str) -> ResponseView:
    """One of the caller's stored responses. Raises `NotFound` or `Expired`."""
    known = request_id(name)
    view = None if known is None else ResponseView.of((await service.info(caller, known)).request)
    if view is None or not view.stored.store:
        raise NotFound
    return view


async def _before(
    service: RequestService, caller: Caller, body: ResponseBody, key: str | None
) -> tuple[ChatMessage, ...]:
    """The messages of the response that a new one continues. Raises `InvalidParameter`.

    Where that response is gone, a call that was made before with the same idempotency key still has its messages.
    """
    name = body.previous_response_id
    if name is None:
        return ()
    try:
        view = await _own(service, caller, name)
        log = await service.read(view.request.id)
    except (NotFound, Expired):
        if (known := await _known_before(service, caller, body, key)) is not None:
            return known
        raise InvalidParameter(
            "previous_response_id",
            "`previous_response_id`: there is no such response, or it is no longer kept; send its items as `input`",
            "previous_response_not_found",
        ) from None
    return await service.whole_answers.make(partial(view.continued, log), [view.request], [log])


async def _known_before(
    service: RequestService, caller: Caller, body: ResponseBody, key: str | None
) -> tuple[ChatMessage, ...] | None:
    """What an earlier call with the same key had before the messages of its own; None where there was no such call."""
    if key is None:
        return None
    try:
        request = (await service.info(caller, service.keyed_id(caller, key))).request
    except (NotFound, Expired):
        return None
    view = ResponseView.of(request)
    if view is None or view.stored.previous != body.previous_response_id:
        return None
    # Admission compares the whole request, and refuses a call whose own messages are others.
    begin, end = int(view.stored.instructions), len(request.messages) - len(body.messages)
    return request.messages[begin : max(begin, end)]


async def _items(service: RequestService, caller: Caller, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The output items of some of the caller's stored responses, by their ids. Responses that are gone have none."""
    items: dict[str, dict[str, Any]] = {}
    for name in names:
        with contextlib.suppress(NotFound, Expired):
            view = await _own(service, caller, name)
            log = await service.read(view.request.id)
            output = await service.whole_answers.make(partial(view.output, log), [view.request], [log])
            items.update((item["id"], item) for item in output)
        await trio.lowlevel.checkpoint()  # the ledger in memory does not wait
    return items


async def _now(service: RequestService, caller: Caller, view: ResponseView) -> msgspec.Raw:
    info = await service.info(caller, view.request.id)
    log = await service.read(view.request.id)
    return await service.whole_answers.encode(partial(view.now, info.state, log), [view.request], [log])


def _view_of(request: GenerateRequest) -> ResponseView:
    view = ResponseView.of(request)
    assert view is not None  # noqa: S101 - `create` made the request a response
    return view


@contextlib.contextmanager
def _found() -> Iterator[None]:
    """Raises the same error for a response that never existed, is another tenant's, or is no longer kept."""
    try:
        yield
    except (NotFound, Expired):
        raise NotFound("there is no such response, or it is no longer kept") from None
