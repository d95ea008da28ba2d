"""`/v1/chat/completions` and `/v1/completions`: whole answers, and streams of one or several choices."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from llmactors.access.authentication import Caller
from llmactors.errors import LlmactorsError
from llmactors.gateway.body import deadline_of
from llmactors.gateway.conversation_key import session_of
from llmactors.gateway.native.events import Renderer
from llmactors.gateway.openai.choices import AdmittedChoices, bare_errors
from llmactors.gateway.openai.images import image_chars
from llmactors.gateway.openai.render import AnswerForm, ChunkRenderer, add_up, error_of, render_error
from llmactors.gateway.openai.schema import ChatBody, ChoiceBody, CompletionBody, read_chat, read_completion
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.streaming.pump import StreamTiming, pieces, pump
from llmactors.gateway.streaming.sse_stream import SSE_HEADERS, SSE_TYPE, SseStream
from llmactors.http.exchange import Exchange
from llmactors.ledger import Follower, LogSlice
from llmactors.messages import Failed, Finished, Usage

Begin = Callable[[], Awaitable[None]]
"""Sends the head of the response, unless it was sent before."""

_CHAT, _TEXT = AnswerForm(chat=True), AnswerForm(chat=False)


async def chat(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`POST /v1/chat/completions`."""
    body = read_chat(await service.bodies.read(exchange, image_chars if service.takes_images(caller) else None))
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
    ended = False

    async def begin() -> None:
        """Sends the head together with the first token. An earlier error has a status, by which clients retry."""
        if not exchange.status:
            await exchange.begin(200, [*SSE_HEADERS, *choices.headers], SSE_TYPE)

    async def follow() -> None:
        nonlocal ended
        try:
            with service.cuttable():
                if len(renderers) == 1:
                    await stream_one(service, exchange, choices.followers[0], renderers[0], begin)
                else:
                    await _several(service, exchange, choices.followers, renderers, begin)
            ended = True
        except LlmactorsError as error:
            if not exchange.status:
                raise
            exchange.code = error.code
            await exchange.write(render_error(error), more=False)

    return await exchange.while_connected(follow) and ended


async def stream_one(
    service: RequestService, exchange: Exchange, follower: Follower, renderer: Renderer, begin: Begin
) -> None:
    """Sends one answer. Raises the error of an answer that fails before its first token."""
    timing, metrics = service.settings.timing, service.metrics
    times = metrics.models.answers(exchange.model).stream(exchange.begun)
    exchange.ttft_s = times.ttft
    await _wait_first(exchange, follower, begin, timing, renderer)
    first = follower.take()
    _check_begun(first)
    await begin()
    for part in pieces(first):
        await exchange.write(renderer.render(part), more=part.end is None)
    now = trio.current_time()
    if first.deltas:
        times.wrote(len(first.deltas), now)
        metrics.tokens_generated(len(first.deltas))
    if first.end is not None:
        exchange.code = first.end.code if isinstance(first.end, Failed) else None
        return
    rest = SseStream(exchange, follower, service.flusher, timing, metrics, renderer, times)
    rest.next_write = now + timing.flush_interval_s
    await rest.run()


async def _several(
    service: RequestService, exchange: Exchange, followers: list[Follower], renderers: list[ChunkRenderer], begin: Begin
) -> None:
    """Sends several choices in one stream. The first choice that fails ends the stream."""
    turn = trio.Lock()
    ends: list[LogSlice] = []

    async def write(renderer: ChunkRenderer, part: LogSlice) -> None:
        service.metrics.tokens_generated(len(part.deltas))
        if part.end is not None and (error := error_of(part.end)) is not None:
            raise error
        async with turn:
            await begin()
            await exchange.write(renderer.render(part))

    async def keep_alive() -> None:
        async with turn:
            await begin()
            await exchange.write(renderers[0].keep_alive)

    async def follow(follower: Follower, renderer: ChunkRenderer) -> None:
        ends.append(await pump(follower, partial(write, renderer), keep_alive, service.settings.timing))

    for renderer in renderers:
        renderer.is_last = False
    with bare_errors():
        async with trio.open_nursery() as nursery:
            for follower, renderer in zip(followers, renderers, strict=True):
                nursery.start_soon(follow, follower, renderer)
    usages: list[Usage] = [part.end.usage for part in ends if isinstance(part.end, Finished)]
    await exchange.write(renderers[0].render_end(add_up(usages)), more=False)


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
