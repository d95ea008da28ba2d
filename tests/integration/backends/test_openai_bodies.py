"""Answers of upstreams in every frame that HTTP has, and in formats that are not quite OpenAI's."""

import contextlib
import gzip
import json
from collections.abc import AsyncIterator

import pytest
import trio

from llmactors.backends.base import Job
from llmactors.backends.openai import OpenAIBackend, OpenAISettings
from llmactors.backends.openai.routing.circuit import CircuitState
from llmactors.errors import BackendFailed, Interrupted, InvalidRequest, LlmactorsError
from llmactors.messages import GenerateRequest
from tests.support.dialects import DIALECTS, OPENAI, WHOLE
from tests.support.faulty_upstream import Behaviour, Hit, sse, text, upstream
from tests.support.longest_hold import LongestHold
from tests.support.splits import splits

pytestmark = pytest.mark.integration

EVENTS = b"Content-Type: text/event-stream\r\n"
CHUNKED = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in splits(OPENAI.raw, range(0, len(OPENAI.raw), 50)))
INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"


def answers(raw: bytes) -> Behaviour:
    """Sends these bytes as the whole response, and closes the connection."""

    async def behave(hit: Hit) -> None:
        await hit.stream.send_all(raw)
        await hit.stream.aclose()

    return behave


@contextlib.asynccontextmanager
async def backend(url: str, options: str = "", *, first_s: float = 2) -> AsyncIterator[OpenAIBackend]:
    settings = OpenAISettings.parse(f"{url},first_s={first_s},silence_s=1,wait_s=0.5,attempts=1{options}", name="gpt")
    made = OpenAIBackend(settings)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def told(made: OpenAIBackend, request: GenerateRequest | None = None) -> tuple[str, str | None, int]:
    job = Job(("r", 1), request or GenerateRequest("r", "gpt", "a prompt", max_tokens=50))
    pieces, finish, prompt_tokens = "", None, 0
    async with contextlib.aclosing(made.generate(job)) as outputs:
        async for output in outputs:
            pieces += "".join(delta.text for delta in output.deltas)
            finish, prompt_tokens = output.finish, output.prompt_tokens
    return pieces, finish, prompt_tokens


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\n" + EVENTS + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED + b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + EVENTS + b"Content-Length: %d\r\n\r\n" % len(OPENAI.raw) + OPENAI.raw,
        b"HTTP/1.1 200 OK\r\n" + EVENTS + b"Connection: close\r\n\r\n" + OPENAI.raw,
        b"HTTP/1.0 200 OK\r\n" + EVENTS + b"\r\n" + OPENAI.raw,
        INTERIM + b"HTTP/1.1 200 OK\r\n" + EVENTS + b"\r\n" + OPENAI.raw,
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + OPENAI.raw,
        b"HTTP/1.1 200 OK\r\n\r\n" + OPENAI.raw,
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(WHOLE.raw) + WHOLE.raw,
        b"HTTP/1.1 200 OK\r\n" + EVENTS + b"\r\n" + WHOLE.raw,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n" + EVENTS + b"\r\n" + gzip.compress(OPENAI.raw),
    ],
    ids=["chunked", "length", "close", "http10", "interim", "plain", "untyped", "whole", "whole as events", "gzip"],
)
async def test_answer_in_any_frame_is_read(raw: bytes) -> None:
    async with upstream(answers(raw)) as only, backend(only.url) as made:
        assert await told(made) == ("Hello there", "stop", 9)


async def test_answer_of_each_server_reaches_the_log() -> None:
    for dialect in DIALECTS:
        head = b"HTTP/1.1 200 OK\r\n" + EVENTS + b"\r\n"
        async with upstream(answers(head + dialect.raw)) as only, backend(only.url) as made:
            assert await told(made) == (dialect.text, dialect.finish, dialect.prompt_tokens)


async def test_unreadable_chunk_does_not_open_the_circuit() -> None:
    """The upstream works: it has begun this answer. An upstream that cannot begin any answer is not asked again."""

    async def spoils(hit: Hit) -> None:
        await hit.head()
        await hit.data(text("one "), sse(b"{bad"))
        await hit.wait_closed()

    async def speaks_otherwise(hit: Hit) -> None:
        await hit.head()
        await hit.data(sse(b"[]"))
        await hit.wait_closed()

    for behaviour, error, state in (
        (spoils, Interrupted, CircuitState.CLOSED),
        (speaks_otherwise, BackendFailed, CircuitState.OPEN),
    ):
        async with upstream(behaviour) as only, backend(only.url, ",continue=none") as made:
            for _ in range(3):
                with contextlib.suppress(error):
                    await told(made)
            assert made.statistics().circuits[only.url] == state.value


async def test_done_without_a_reason_ends_where_the_settings_say_so() -> None:
    async def behave(hit: Hit) -> None:
        await hit.head()
        await hit.data(text("one "))
        await trio.sleep(0.02)
        await hit.data(sse(b"[DONE]"))
        await hit.end()

    async with upstream(behave) as only:
        async with backend(only.url, ",done_ends=true") as made:
            assert (await told(made))[:2] == ("one ", "stop")
        async with backend(only.url) as made:
            with pytest.raises(Interrupted):
                await told(made)


HEAD = b"HTTP/1.1 200 OK\r\n" + EVENTS
FLOODS = {
    "comments": (HEAD + b"\r\n", b":\n" * 50_000),
    "chunks of one byte": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n:\r\n" * 10_000),
    "chunks without content": (HEAD + b"\r\n", sse({"choices": [{"delta": {}}]}) * 2000),
    "text behind the last token": (HEAD + b"\r\n", text("a") * 1000),
    "a line without an end": (HEAD + b"\r\n", b"x" * 1_000_000),
    "very many choices": (HEAD + b"\r\n", b'data: {"choices":[' + b"{}," * 300_000 + b"{}]}\n\n"),
    "a small body that becomes a long one": (
        HEAD + b"Content-Encoding: gzip\r\n\r\n",
        gzip.compress(b":\n" * 5_000_000, compresslevel=1),
    ),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_flood_ends_in_time_and_holds_nobody(name: str) -> None:
    head, piece = FLOODS[name]

    async def behave(hit: Hit) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await hit.stream.send_all(head)
            while True:
                await hit.stream.send_all(piece)

    hold = LongestHold()
    async with upstream(behave) as only, backend(only.url, first_s=0.3) as made:
        trio.lowlevel.add_instrument(hold)
        with trio.fail_after(10), pytest.raises(LlmactorsError):
            await told(made)
        trio.lowlevel.remove_instrument(hold)
    # 5 to 15 ms on a core of its own. The speed of a core swings by two where others share the machine.
    assert hold.seconds < 0.03, hold


def takes(*fields: str) -> Behaviour:
    """Refuses a request with any other field, as servers on FastAPI do."""

    async def behave(hit: Hit) -> None:
        unknown = [{"loc": ["body", name], "msg": "not permitted"} for name in hit.body.keys() - set(fields)]
        if unknown:
            await hit.head(422, kind="application/json")
            await hit.data(json.dumps({"detail": unknown}).encode())
            await hit.end()
        else:
            await hit.head()
            await hit.data(
                text("one two three"), sse({"choices": [{"delta": {}, "finish_reason": "stop"}]}), sse(b"[DONE]")
            )
            await hit.end()

    return behave


async def test_upstream_without_our_fields_is_asked_without_them() -> None:
    """The second request costs no second try. Stop strings hold, and a prompt that is not counted is estimated."""
    plain = ("model", "messages", "stream", "max_completion_tokens")
    request = GenerateRequest("r", "gpt", "x" * 80, stop=(" three",), defaulted=("temperature", "top_p"))
    async with upstream(takes(*plain)) as only, backend(only.url) as made:
        for _ in range(2):
            assert await told(made, request) == ("one two", "stop", 20)
        assert len(only.hits) == 3
        assert made.statistics().circuits[only.url] == "closed"


async def test_field_of_the_client_is_refused_by_its_name() -> None:
    plain = ("model", "messages", "stream", "max_tokens")
    request = GenerateRequest("r", "gpt", "p", temperature=0.5, defaulted=("top_p",))
    async with upstream(takes(*plain)) as only, backend(only.url) as made:
        with pytest.raises(InvalidRequest, match=r"^`temperature`: the upstream refuses"):
            await told(made, request)
        assert [hit.body["temperature"] for hit in only.hits] == [0.5, 0.5]
