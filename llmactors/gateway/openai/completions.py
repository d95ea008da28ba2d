"""`/v1/chat/completions` and `/v1/completions`: whole answers, and streams of one or several choices."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from llmactors.access.authentication import Caller
from llmactors.errors import LlmactorsError
from llmactors.gateway.body import deadline_of
from llmactors.gateway.conversation_key import session_of
from llmactors.gateway.native.events import NotedRenderer, Renderer
from llmactors.gateway.openai.choices import AdmittedChoices
from llmactors.gateway.openai.images import image_chars
from llmactors.gateway.openai.render import AnswerForm, ChunkRenderer, error_of, render_error
from llmactors.gateway.openai.schema import ChatBody, ChoiceBody, CompletionBody, read_chat, read_completion
from llmactors.gateway.openai.several_choices import SeveralChoices
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.streaming.begun_stream import BegunStream, note_stream
from llmactors.gateway.streaming.pump import StreamTiming, pieces
from llmactors.gateway.streaming.resuming import Reached, catch_up, last_seq
from llmactors.gateway.streaming.sse_stream import SSE_HEADERS, SSE_TYPE, SseStream
from llmactors.http.exchange import Exchange
from llmactors.ledger import Follower, LogSlice
from llmactors.messages import Failed

Begin = Callable[[], Awaitable[None]]
"""Sends the head of the response, unless it was sent before."""

_CHAT, _TEXT = AnswerForm(chat=True), AnswerForm(chat=False)


async def chat(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`POST /v1/chat/completions`."""
    body = read_chat(await service.body_with_images(exchange, caller, image_chars))
    await _answer(service, exchange, caller, body, body.choices(_deadline_ms(exchange)), _CHAT)


async def completions(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`POST /v1/completions`."""
    body = read_completion(await service.bodies.read(exchange))
    await _answer(service, exchange, caller, body, body.choices(_deadline_ms(exchange)), _TEXT)


async def _answer(
    service: RequestService,
    exchange: Exchange,
    caller: Caller,
    body: ChatBody | CompletionBody,
    choices: Sequence[ChoiceBody],
    form: AnswerForm,
) -> None:
    async with AdmittedChoices(service) as admitted:
        session = session_of(exchange, body.prompt_cache_key)
        await admitted.admit(exchange, caller, choices, session)
        if body.stream:
            done = await _stream(service, exchange, admitted, form, with_usage=body.with_usage)
        else:
            done = await _whole(service, exchange, admitted, form)
        admitted.answered = done


def _deadline_ms(exchange: Exchange) -> int | None:
    return deadline_of(exchange.header(b"x-request-deadline"))


async def _whole(service: RequestService, exchange: Exchange, choices: AdmittedChoices, form: AnswerForm) -> bool:
    logs = await choices.wait_logs(exchange, counts_tokens=True)
    if logs is None:
        return False
    first = choices.admissions[0].request
    choices.answered = True
    requests = [admission.request for admission in choices.admissions]
    make = partial(form.whole, form.answer_id(first.id), requests, logs)
    await exchange.answer(200, await service.whole_answers.encode(make, requests, logs), choices.headers)
    return True


async def _stream(
    service: RequestService, exchange: Exchange, choices: AdmittedChoices, form: AnswerForm, *, with_usage: bool
) -> bool:
    """Returns whether the client got the whole stream."""
    first = choices.admissions[0].request
    renderers = [
        ChunkRenderer(form, form.answer_id(first.id), admission.request, index=index, with_usage=with_usage)
        for index, admission in enumerate(choices.admissions)
    ]

    async def begin() -> None:
        """Sends the head together with the first token. An earlier error has a status, by which clients retry."""
        if not exchange.status:
            await exchange.begin(200, [*SSE_HEADERS, *choices.headers], SSE_TYPE)

    async def run() -> None:
        if len(renderers) == 1:
            keyed = choices.admissions[0].keyed
            await stream_one(service, exchange, choices.followers[0], renderers[0], begin, keyed=keyed)
        else:
            await SeveralChoices(service, exchange, choices.followers, renderers, begin).run()

    return await send_stream(service, exchange, run, render_error)


async def send_stream(
    service: RequestService,
    exchange: Exchange,
    run: Callable[[], Awaitable[None]],
    render_error: Callable[[LlmactorsError], bytes],
) -> bool:
    """Sends what `run` writes, and its error. Returns whether the client got the whole stream."""
    ended = False

    async def follow() -> None:
        nonlocal ended
        try:
            with service.cuttable():
                await run()
            ended = True
        except LlmactorsError as error:
            if not exchange.status:
                raise
            exchange.code = error.code
            await exchange.write(render_error(error), more=False)

    return await exchange.while_connected(follow) and ended


async def go_on_with_chat(service: RequestService, exchange: Exchange, begun: BegunStream) -> None:
    """Sends the rest of a chat that an earlier gateway began to stream."""
    await _go_on(service, exchange, begun, _CHAT)


async def go_on_with_completion(service: RequestService, exchange: Exchange, begun: BegunStream) -> None:
    """As `go_on_with_chat`, for a completion."""
    await _go_on(service, exchange, begun, _TEXT)


async def _go_on(service: RequestService, exchange: Exchange, begun: BegunStream, form: AnswerForm) -> None:
    request = begun.note.request
    renderer = ChunkRenderer(form, form.answer_id(request.id), request, with_usage=begun.note.with_usage)
    await stream_rest(service, exchange, begun, renderer, render_error)


async def stream_one(
    service: RequestService,
    exchange: Exchange,
    follower: Follower,
    renderer: NotedRenderer,
    begin: Begin,
    *,
    keyed: bool,
) -> None:
    """Sends one answer. Raises the error of an answer that fails before its first token.

    `keyed`: the call has an idempotency key.
    """
    timing, metrics = service.settings.timing, service.metrics
    times = metrics.models.answers(exchange.model).stream(None if exchange.reached else exchange.begun)
    exchange.ttft_s = times.ttft
    first: LogSlice | None = None
    if (reached := exchange.reached) is not None:
        await begin()
        [seq] = Reached.parse(reached).seqs
        first = await catch_up(follower, seq, renderer.render)
        await exchange.resume()
        if seq:
            _note(exchange, renderer, keyed=keyed)
            rest = SseStream(exchange, follower, service.flusher, timing, metrics, renderer, times, first=first)
            await rest.run()
            return
    await _wait_first(exchange, follower, begin, timing, renderer)
    first = follower.take()
    _check_begun(first)
    await begin()
    for part in pieces(first):
        exchange.note_reached(last_seq(part))
        await exchange.write(renderer.render(part), more=part.end is None)
    now = trio.current_time()
    if first.deltas:
        times.wrote(len(first.deltas), now)
        metrics.tokens_generated(len(first.deltas))
    if first.end is not None:
        exchange.code = first.end.code if isinstance(first.end, Failed) else None
        return
    _note(exchange, renderer, keyed=keyed)
    rest = SseStream(exchange, follower, service.flusher, timing, metrics, renderer, times)
    rest.next_write = now + timing.flush_interval_s
    await rest.run()


async def stream_rest(
    service: RequestService,
    exchange: Exchange,
    begun: BegunStream,
    renderer: Renderer,
    render_error: Callable[[LlmactorsError], bytes],
) -> None:
    """Sends what is left of an answer that an earlier gateway began. The renderer has rendered nothing."""
    timing, metrics = service.settings.timing, service.metrics
    renderer.render(begun.telling)
    async with AdmittedChoices(service) as choices:
        choices.take_up(begun)
        times = metrics.models.answers(exchange.model).stream(None)
        rest = SseStream(exchange, begun.follower, service.flusher, timing, metrics, renderer, times)
        choices.answered = await send_stream(service, exchange, rest.run, render_error)


def _note(exchange: Exchange, renderer: NotedRenderer, *, keyed: bool) -> None:
    """Notes a stream of which the first token was written."""
    about = renderer.note
    if about is not None:
        note_stream(exchange, exchange.model, keyed=keyed, **about)


async def _wait_first(
    exchange: Exchange, follower: Follower, begin: Begin, timing: StreamTiming, renderer: Renderer
) -> None:
    """Waits for the first token. In a long silence the response begins with keep-alives, so that no proxy cuts it."""
    while True:
        with trio.move_on_after(timing.keep_alive_s):
            await follower.wait_more()
            return
        await begin()
        await exchange.write(renderer.keep_alive)


def _check_begun(part: LogSlice) -> None:
    """Raises the error of an answer that ended before its first token."""
    if part.end is not None and not part.deltas and (error := error_of(part.end)) is not None:
        raise error
