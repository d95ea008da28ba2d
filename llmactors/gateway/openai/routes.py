"""The handlers of `/v1/chat/completions`, `/v1/completions` and `/v1/models`."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Self

import attrs
import trio

from llmactors.access.authentication import Caller
from llmactors.errors import LlmactorsError, MethodNotAllowed, NotFound
from llmactors.gateway.admission import Admission
from llmactors.gateway.body import deadline_of, parse_object
from llmactors.gateway.native.generate import SSE_HEADERS, SSE_TYPE
from llmactors.gateway.openai.render import ChunkRenderer, Kind, add_up, error_of, render_error
from llmactors.gateway.openai.schema import OneAsk, read_chat, read_completion
from llmactors.gateway.request_service import RequestService, cut_error
from llmactors.gateway.streaming.pump import pieces, pump
from llmactors.gateway.streaming.sse_stream import SseStream
from llmactors.http.exchange import Exchange, Header
from llmactors.ledger import Follower, LogSlice
from llmactors.messages import Failed, Finished, GenerateRequest, Usage

Begin = Callable[[], Awaitable[None]]
"""Sends the head of the answer, if that was not done yet."""

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models")
TIMING_HEADER = "openai-processing-ms"
"""The milliseconds until the response began, for clients that log them."""
_CHAT, _TEXT = Kind(chat=True), Kind(chat=False)


def serves(path: str) -> bool:
    """Whether a path is one of these routes."""
    return path in PATHS or path.startswith("/v1/models/")


async def handle(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """Any of these routes."""
    exchange.timing_header = TIMING_HEADER
    path = exchange.scope["path"]
    if path.startswith("/v1/models"):
        await _models(service, exchange, caller)
        return
    if exchange.scope["method"] != "POST":
        raise MethodNotAllowed("use POST", allowed=("POST",))
    limits = service.settings
    fields = parse_object(await exchange.body(max_bytes=limits.max_body_bytes, within_s=limits.body_s))
    deadline_ms = deadline_of(exchange.header(b"x-request-deadline"))
    if path == "/v1/chat/completions":
        chat = read_chat(fields)
        asks, stream, with_usage, kind = chat.asks(deadline_ms), bool(chat.stream), chat.with_usage, _CHAT
    else:
        text = read_completion(fields)
        asks, stream, with_usage, kind = text.asks(deadline_ms), bool(text.stream), text.with_usage, _TEXT
    async with Choices(service) as choices:
        await choices.admit(caller, asks, exchange.idempotency_key)
        exchange.request_id = choices.admissions[0].request.id
        if stream:
            done = await _stream(service, exchange, choices, kind, with_usage=with_usage)
        else:
            done = await _whole(service, exchange, choices, kind)
        choices.answered = done


async def _models(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    if exchange.scope["method"] != "GET":
        raise MethodNotAllowed("use GET", allowed=("GET",))
    names = service.models_for(caller)
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "llmactors"} for name in names]
    name = exchange.scope["path"].removeprefix("/v1/models").removeprefix("/")
    if not name:
        await exchange.answer(200, {"object": "list", "data": models})
        return
    found = next((model for model in models if model["id"] == name), None)
    if found is None:
        raise NotFound(f"there is no such model; there are: {', '.join(names) or 'none'}")
    await exchange.answer(200, found)


@attrs.define
class Choices:
    """The requests that one call became. Whoever is gone before the answer was given takes all of them along."""

    _service: RequestService
    admissions: list[Admission] = attrs.field(factory=list)
    followers: list[Follower] = attrs.field(factory=list)
    answered: bool = False
    _open: contextlib.ExitStack = attrs.field(factory=contextlib.ExitStack)

    async def admit(self, caller: Caller, asks: Sequence[OneAsk], key: str | None) -> None:
        self.admissions = await self._service.admit_all(caller, asks, key)
        for admission in self.admissions:
            self.followers.append(self._open.enter_context(await self._service.own_follower(admission)))

    @property
    def headers(self) -> list[Header]:
        return self.admissions[-1].headers

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            if not self.answered:
                # Also where the handler was cancelled: it takes a moment only, and frees slots at once.
                with trio.move_on_after(1.0, shield=True):
                    for admission in self.admissions:
                        if admission.keyed:
                            continue
                        await self._service.abandon(admission.request.id)
        finally:
            self._open.close()


async def _whole(service: RequestService, exchange: Exchange, choices: Choices, kind: Kind) -> bool:
    logs = [LogSlice(1, ())] * len(choices.followers)

    async def wait(index: int, follower: Follower) -> None:
        await follower.wait_end()
        log = logs[index] = follower.take()
        service.metrics.tokens_generated(len(log.deltas))
        if log.end is not None and (error := error_of(log.end)) is not None:
            raise error

    async def wait_all() -> None:
        # The first choice that fails ends it: there is no answer without it, and the others are given up.
        async with trio.open_nursery() as nursery:
            for index, follower in enumerate(choices.followers):
                nursery.start_soon(wait, index, follower)

    connected = False
    with _bare_errors(), service.cuttable() as scope:
        connected = await exchange.while_connected(wait_all)
    if scope.cancelled_caught:
        raise cut_error()
    if not connected:
        exchange.status = 499
        return False
    first = choices.admissions[0].request
    choices.answered = True
    await exchange.answer(
        200, kind.whole(kind.answer_id(first.id), first.model, created_s(first), logs), choices.headers
    )
    return True


async def _stream(
    service: RequestService, exchange: Exchange, choices: Choices, kind: Kind, *, with_usage: bool
) -> bool:
    """Whether the client got all of it."""
    first = choices.admissions[0].request
    created = created_s(first)
    renderers = [
        ChunkRenderer(kind, kind.answer_id(first.id), first.model, created, index=index, with_usage=with_usage)
        for index in range(len(choices.followers))
    ]
    ended = False

    async def begin() -> None:
        """Only with the first token: what fails before it has a status of its own, by which clients try again."""
        if not exchange.status:
            await exchange.begin(200, [*SSE_HEADERS, *choices.headers], SSE_TYPE)

    async def follow() -> None:
        nonlocal ended
        try:
            with service.cuttable() as scope:
                if len(renderers) == 1:
                    await _one(service, exchange, choices.followers[0], renderers[0], begin)
                else:
                    await _several(service, exchange, choices.followers, renderers, begin)
            if scope.cancelled_caught:
                raise cut_error()
            ended = True
        except LlmactorsError as error:
            if not exchange.status:
                raise
            exchange.code = error.code
            await exchange.write(render_error(error), more=False)

    return await exchange.while_connected(follow) and ended


async def _one(
    service: RequestService, exchange: Exchange, follower: Follower, renderer: ChunkRenderer, begin: Begin
) -> None:
    timing, metrics = service.settings.timing, service.metrics
    await follower.wait_more()
    first = follower.take()
    _check_begun(first)
    await begin()
    for part in pieces(first):
        await exchange.write(renderer.render(part), more=part.end is None)
    now = trio.current_time()
    if first.deltas:
        metrics.first_token(now - exchange.begun)
        metrics.tokens_generated(len(first.deltas))
    if first.end is not None:
        exchange.code = first.end.code if isinstance(first.end, Failed) else None
        return
    rest = SseStream(exchange, follower, service.flusher, timing, metrics, renderer, awaits_first=False)
    rest.next_write = now + timing.flush_interval_s
    await rest.run()


async def _several(
    service: RequestService, exchange: Exchange, followers: list[Follower], renderers: list[ChunkRenderer], begin: Begin
) -> None:
    """Choices take turns in one stream. The first that fails ends it."""
    turn = trio.Lock()
    ends: list[LogSlice] = []

    async def write(renderer: ChunkRenderer, part: LogSlice) -> None:
        service.metrics.tokens_generated(len(part.deltas))
        if part.end is not None and (error := error_of(part.end)) is not None:
            raise error
        async with turn:
            await begin()
            await exchange.write(renderer.render(part))

    async def nothing() -> None:
        await trio.lowlevel.checkpoint()

    async def follow(follower: Follower, renderer: ChunkRenderer) -> None:
        ends.append(await pump(follower, partial(write, renderer), nothing, service.settings.timing))

    for renderer in renderers:
        renderer.is_last = False
    with _bare_errors():
        async with trio.open_nursery() as nursery:
            for follower, renderer in zip(followers, renderers, strict=True):
                nursery.start_soon(follow, follower, renderer)
    usages: list[Usage] = [part.end.usage for part in ends if isinstance(part.end, Finished)]
    await exchange.write(renderers[0].render_end(add_up(usages)), more=False)


def _check_begun(part: LogSlice) -> None:
    """Raises the error of an answer that ended before it began."""
    if part.end is not None and not part.deltas and (error := error_of(part.end)) is not None:
        raise error


@contextlib.contextmanager
def _bare_errors() -> Iterator[None]:
    """The first error of ours out of a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        ours: Any = group.subgroup(LlmactorsError)
        if ours is None:
            raise
        while isinstance(ours, BaseExceptionGroup):
            ours = ours.exceptions[0]
        raise ours from None


def created_s(request: GenerateRequest) -> int:
    """For `created`: the same of one request, whichever gateway is asked, and however often."""
    return (request.created_ms or 0) // 1000
