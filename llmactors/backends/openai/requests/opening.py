"""What is sent to an upstream in one try, and how its response is read."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
import trio

from llmactors.backends.openai.continuation.overlap import OverlapFilter, ReplayFilter, TokenIdFilter, WhitespaceFilter
from llmactors.backends.openai.continuation.strategy import LoggedAnswer, UnknownIds
from llmactors.backends.openai.engines import TokenServer
from llmactors.backends.openai.engines.engine import Reader
from llmactors.backends.openai.requests.body import body_of, is_raw
from llmactors.backends.openai.requests.upstream import Upstream
from llmactors.backends.openai.responses.answer import UpstreamAnswer
from llmactors.backends.openai.responses.chunks import ChunkReader
from llmactors.backends.openai.responses.token_answer import TokenAnswer
from llmactors.backends.openai.settings import OpenAISettings
from llmactors.messages import GenerateRequest

_CHARACTER_TOKENS = 5
"""One more than a character may have bytes."""
_CUT = "\N{REPLACEMENT CHARACTER}"


@attrs.frozen
class Opening:
    """One try."""

    route: str
    body: dict[str, Any]
    reader: Reader
    answer: UpstreamAnswer | TokenAnswer
    overlap: OverlapFilter | None = None
    read_before: int = 0
    """How many tokens of the answer the upstream counts as its prompt."""


@attrs.frozen
class Asked:
    """What an opening is made of: an upstream, and what is known of it."""

    upstream: Upstream
    model: str
    engine: TokenServer | None
    vocabulary: str
    """The fingerprint of the upstream's vocabulary; empty where it is not known."""


def plain_opening(request: GenerateRequest, asked: Asked, settings: OpenAISettings, *, sends_ids: bool) -> Opening:
    """An answer from its beginning, at a route of OpenAI's API."""
    route, body = body_of(
        request,
        asked.model,
        "",
        0,
        tokens_field=settings.tokens_field,
        engine=settings.engine,
        sends_ids=sends_ids,
    )
    return Opening(route, body, _reader(request, with_ids=sends_ids), _answer(request, 0, asked, sends_ids=sends_ids))


def text_opening(request: GenerateRequest, asked: Asked, settings: OpenAISettings, logged: LoggedAnswer) -> Opening:
    """The rest of an answer behind its text."""
    text = logged.text
    # Templates of Hugging Face drop the white space at the end of a message. llama.cpp keeps a text as it is.
    if not is_raw(request) and settings.engine != "llamacpp":
        text = text.rstrip()
    route, body = body_of(
        request, asked.model, text, logged.count, tokens_field=settings.tokens_field, engine=settings.engine
    )
    answer = _answer(request, logged.count, asked, sends_ids=False)
    overlap = WhitespaceFilter(logged.text[len(text) :])
    return Opening(route, body, _reader(request, with_ids=False), answer, overlap, logged.count)


async def ids_opening(
    request: GenerateRequest, asked: Asked, engine: TokenServer, logged: LoggedAnswer, *, begins_now: bool
) -> Opening | None:
    """An answer, or its rest, behind token ids; None where the constraint lets nothing follow.

    `begins_now`: whether the grammar of a constraint with a trigger holds at once.

    Raises:
        UpstreamFault: The upstream does not tell the ids.
        Interrupted: No valid rest of the constraint is known.
    """
    if logged.prompt is None or not logged.prompt.data:
        prompt = await engine.prompt_ids(asked.upstream, asked.model, request)
    else:
        prompt = logged.prompt.ids
    known = await _known_ids(logged.ids or (), asked, engine)
    cut = await _cut_character(known, logged.text, asked, engine)
    ids = [*prompt, *known[: len(known) - cut]]
    rest: dict[str, Any] = {}
    if request.constraint is not None:
        left = partial(engine.constraint, request.constraint, logged.text, begins_now=begins_now)
        rest, is_complete = await trio.to_thread.run_sync(left) if logged.text else left()
        if is_complete:
            return None
    route, body = engine.generation(request, asked.model, ids, logged.count - cut, rest)
    answer = _answer(request, logged.count, asked, sends_ids=True, prompt_ids=prompt)
    overlap = TokenIdFilter(known[-cut:]) if cut else None
    return Opening(route, body, engine.reader(), answer, overlap, logged.count - cut)


def made_again(
    opening: Opening, request: GenerateRequest, asked: Asked, logged: LoggedAnswer, *, sends_ids: bool
) -> Opening:
    """The opening of a whole answer, without what the client has.

    `sends_ids`: whether the stream has ids, and the log takes them.
    """
    answer = _answer(request, logged.count, asked, sends_ids=sends_ids)
    return attrs.evolve(opening, answer=answer, overlap=ReplayFilter(logged))


def _reader(request: GenerateRequest, *, with_ids: bool) -> Reader:
    return ChunkReader(with_logprobs=request.top_logprobs is not None, with_ids=with_ids)


def _answer(
    request: GenerateRequest, count: int, asked: Asked, *, sends_ids: bool, prompt_ids: Sequence[int] = ()
) -> UpstreamAnswer | TokenAnswer:
    max_tokens, least, top = request.max_tokens - count, request.min_tokens - count, request.top_logprobs or 0
    # An answer that began elsewhere has the model's name already.
    name = asked.model if asked.model != request.model and not count else ""
    if not sends_ids:
        return UpstreamAnswer(request.stop, max_tokens, top, least, model=name)
    return TokenAnswer(
        request.stop,
        max_tokens,
        top,
        least,
        vocabulary=asked.vocabulary,
        prompt_ids=prompt_ids,
        logged=count,
        model=name,
    )


async def _cut_character(ids: Sequence[int], text: str, asked: Asked, engine: TokenServer) -> int:
    """How many ids at the end stand for a character of which the text has nothing yet.

    An upstream that sends several tokens at once may send the ids of a part of a character, but no text for them.
    """
    last = list(ids[-_CHARACTER_TOKENS:])
    if not last or text.endswith(_CUT):
        return 0
    if not (await engine.text_of(asked.upstream, asked.model, last)).endswith(_CUT):
        return 0
    for cut in range(1, len(last)):
        if not (await engine.text_of(asked.upstream, asked.model, last[:-cut])).endswith(_CUT):
            return cut
    return 0


async def _known_ids(ids: Sequence[int | UnknownIds], asked: Asked, engine: TokenServer) -> list[int]:
    """The ids, with unknown ones found by the text. Mostly, only one sequence of so many ids has this text."""
    found: list[int] = []
    for each in ids:
        if isinstance(each, UnknownIds):
            written = await engine.tokenize(asked.upstream, asked.model, each.text)
            # Some vocabularies put a blank before a text that stands alone.
            fits = len(written) >= each.count and written[-1] == each.last
            found += written[-each.count :] if fits else written
        else:
            found.append(each)
    return found
