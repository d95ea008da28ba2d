"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

import time
from functools import partial

from llmactors.access.authentication import Caller
from llmactors.gateway.anthropic.blocks import whole_answer
from llmactors.gateway.anthropic.events import MessageRenderer, render_error
from llmactors.gateway.anthropic.limit_headers import anthropic_limit_headers
from llmactors.gateway.anthropic.schema import read_messages, read_prompt
from llmactors.gateway.body import deadline_of
from llmactors.gateway.conversation_key import session_of
from llmactors.gateway.openai.choices import AdmittedChoices
from llmactors.gateway.openai.completions import send_stream, stream_one, stream_rest
from llmactors.gateway.openai.images import image_chars
from llmactors.gateway.openai.schema import ChoiceBody
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.streaming.begun_stream import BegunStream
from llmactors.gateway.streaming.sse_stream import SSE_HEADERS, SSE_TYPE
from llmactors.http.exchange import Exchange, Header
from llmactors.ledger import LogSlice, RequestSize
from llmactors.messages import Finished


async def messages(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`POST /v1/messages`."""
    body = read_messages(await service.body_with_images(exchange, caller, image_chars))
    shows_thinking = body.shows_thinking
    async with AdmittedChoices(service) as admitted:
        await _admit(admitted, exchange, caller, body.choice(_deadline_ms(exchange)))
        if body.stream:
            renderer = MessageRenderer(admitted.admissions[0].request, shows_thinking=shows_thinking)
            admitted.answered = await _stream(service, exchange, admitted, renderer)
            return
        logs = await admitted.wait_logs(exchange, counts_tokens=True)
        if logs is not None:
            [log] = logs
            request = admitted.admissions[0].request
            make = partial(whole_answer, request, log, _finished(log), shows_thinking=shows_thinking)
            answer = await service.whole_answers.encode(make, [request], [log])
            admitted.answered = True
            await exchange.answer(200, answer, _headers(admitted))


async def count_tokens(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`POST /v1/messages/count_tokens`: the model itself counts, while it makes an answer of one token.

    A model whose backend does not say how long a prompt was gets the estimate that token limits use.
    """
    body = read_prompt(await service.body_with_images(exchange, caller, image_chars))
    _ = body.shows_thinking  # a wrong value is an error here too
    async with AdmittedChoices(service) as admitted:
        await _admit(admitted, exchange, caller, body.choice(_deadline_ms(exchange)))
        logs = await admitted.wait_logs(exchange, counts_tokens=False)
        if logs is not None:
            request = admitted.admissions[0].request
            tokens = _finished(logs[0]).usage.prompt_tokens or RequestSize.of(request).prompt_tokens
            admitted.answered = True
            await exchange.answer(200, {"input_tokens": tokens}, _headers(admitted))


def _deadline_ms(exchange: Exchange) -> int | None:
    return deadline_of(exchange.header(b"x-request-deadline"))


async def _admit(admitted: AdmittedChoices, exchange: Exchange, caller: Caller, choice: ChoiceBody) -> None:
    await admitted.admit(exchange, caller, [choice], session_of(exchange))


def _headers(admitted: AdmittedChoices) -> list[Header]:
    return [*admitted.headers, *anthropic_limit_headers(admitted.admissions[0].standings, time.time())]


def _finished(log: LogSlice) -> Finished:
    """The end of a log that was waited for. Every other end was raised as an error."""
    assert isinstance(log.end, Finished)  # noqa: S101 - for mypy
    return log.end


async def _stream(
    service: RequestService, exchange: Exchange, admitted: AdmittedChoices, renderer: MessageRenderer
) -> bool:
    """Returns whether the client got the whole stream."""

    async def begin() -> None:
        """Sends the head together with the first token. An earlier error has a status, by which clients retry."""
        if not exchange.status:
            await exchange.begin(200, [*SSE_HEADERS, *_headers(admitted)], SSE_TYPE)

    [admission], [follower] = admitted.admissions, admitted.followers
    run = partial(stream_one, service, exchange, follower, renderer, begin, keyed=admission.keyed)
    return await send_stream(service, exchange, run, partial(render_error, request_id=exchange.request_id))


async def go_on(service: RequestService, exchange: Exchange, begun: BegunStream) -> None:
    """Sends the rest of a message that an earlier gateway began to stream."""
    renderer = MessageRenderer(begun.note.request, shows_thinking=begun.note.shows_thinking)
    await stream_rest(service, exchange, begun, renderer, partial(render_error, request_id=exchange.request_id))
