"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

import time
from functools import partial

from llmactors.access.authentication import Caller
from llmactors.errors import LlmactorsError
from llmactors.gateway.anthropic.blocks import whole_answer
from llmactors.gateway.anthropic.events import MessageRenderer, render_error
from llmactors.gateway.anthropic.limit_headers import anthropic_limit_headers
from llmactors.gateway.anthropic.schema import read_messages, read_prompt
from llmactors.gateway.body import deadline_of
from llmactors.gateway.conversation_key import session_of
from llmactors.gateway.openai.choices import AdmittedChoices
from llmactors.gateway.openai.completions import stream_one
from llmactors.gateway.openai.images import image_chars
from llmactors.gateway.openai.render import error_of
from llmactors.gateway.openai.schema import ChoiceBody
from llmactors.gateway.request_service import RequestService, cut_error
from llmactors.gateway.streaming.sse_stream import SSE_HEADERS, SSE_TYPE
from llmactors.http.exchange import Exchange, Header
from llmactors.ledger import LogSlice, RequestSize
from llmactors.messages import Finished


async def messages(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`POST /v1/messages`."""
    body = read_messages(await service.bodies.read(exchange, image_chars if service.takes_images(caller) else None))
    shows_thinking = body.shows_thinking
    async with AdmittedChoices(service) as admitted:
        await _admit(admitted, exchange, caller, body.choice(_deadline_ms(exchange)))
        if body.stream:
            renderer = MessageRenderer(admitted.admissions[0].request, shows_thinking=shows_thinking)
            admitted.answered = await _stream(service, exchange, admitted, renderer)
            return
        ended = await _wait_end(service, exchange, admitted)
        if ended is not None:
            log, end = ended
            service.metrics.tokens_generated(len(log.deltas))
            request = admitted.admissions[0].request
            make = partial(whole_answer, request, log, end, shows_thinking=shows_thinking)
            answer = await service.whole_answers.encode(make, [request], [log])
            admitted.answered = True
            await exchange.answer(200, answer, _headers(admitted))


async def count_tokens(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`POST /v1/messages/count_tokens`: the model itself counts, while it makes an answer of one token.

    A model whose backend does not say how long a prompt was gets the estimate that token limits use.
    """
    body = read_prompt(await service.bodies.read(exchange, image_chars if service.takes_images(caller) else None))
    _ = body.shows_thinking  # a wrong value is an error here too
    async with AdmittedChoices(service) as admitted:
        await _admit(admitted, exchange, caller, body.choice(_deadline_ms(exchange)))
        ended = await _wait_end(service, exchange, admitted)
        if ended is not None:
            request = admitted.admissions[0].request
            tokens = ended[1].usage.prompt_tokens or RequestSize.of(request).prompt_tokens
            admitted.answered = True
            await exchange.answer(200, {"input_tokens": tokens}, _headers(admitted))


def _deadline_ms(exchange: Exchange) -> int | None:
    return deadline_of(exchange.header(b"x-request-deadline"))


async def _admit(admitted: AdmittedChoices, exchange: Exchange, caller: Caller, choice: ChoiceBody) -> None:
    await admitted.admit(caller, [choice], exchange.idempotency_key, session_of(exchange))
    exchange.request_id = admitted.admissions[0].request.id


def _headers(admitted: AdmittedChoices) -> list[Header]:
    return [*admitted.headers, *anthropic_limit_headers(admitted.admissions[0].standings, time.time())]


async def _wait_end(
    service: RequestService, exchange: Exchange, admitted: AdmittedChoices
) -> tuple[LogSlice, Finished] | None:
    """The whole log and its end; None where the client has disconnected. Raises the error of a failed answer."""
    [follower] = admitted.followers
    connected = False
    with service.cuttable() as scope:
        connected = await exchange.while_connected(follower.wait_end)
    if scope.cancelled_caught:
        raise cut_error()
    if not connected:
        exchange.status = 499
        return None
    log = follower.take()
    assert log.end is not None  # noqa: S101 - the end was waited for
    if (error := error_of(log.end)) is not None:
        raise error
    assert isinstance(log.end, Finished)  # noqa: S101 - every other end has an error
    return log, log.end


async def _stream(
    service: RequestService, exchange: Exchange, admitted: AdmittedChoices, renderer: MessageRenderer
) -> bool:
    """Returns whether the client got the whole stream."""
    ended = False

    async def begin() -> None:
        """Sends the head together with the first token. An earlier error has a status, by which clients retry."""
        if not exchange.status:
            await exchange.begin(200, [*SSE_HEADERS, *_headers(admitted)], SSE_TYPE)

    async def follow() -> None:
        nonlocal ended
        try:
            with service.cuttable() as scope:
                await stream_one(service, exchange, admitted.followers[0], renderer, begin)
            if scope.cancelled_caught:
                raise cut_error()
            ended = True
        except LlmactorsError as error:
            if not exchange.status:
                raise
            exchange.code = error.code
            await exchange.write(render_error(error, exchange.request_id), more=False)

    return await exchange.while_connected(follow) and ended
