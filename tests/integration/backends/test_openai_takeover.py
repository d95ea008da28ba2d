"""An answer goes on at another upstream, or at another worker, as if nothing had happened.

The upstreams are doubles of vLLM and SGLang. Each test counts on the model of the doubles: a token follows from all ids
before it, so that any other ids lead to another answer.
"""

import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import attrs
import pytest

from llmactors.backends.base import Job, Output
from llmactors.backends.openai import OpenAIBackend, OpenAISettings
from llmactors.errors import Interrupted
from llmactors.grammar.json_schema.convert import schema_grammar
from llmactors.messages import ChatMessage, Constraint, GenerateRequest, Image, TokenDelta, ToolUse
from llmactors.tool_calls.fold import fold_answer
from llmactors.tool_calls.pieces import CallBegun
from tests.support.engines.sglang import SglangDouble
from tests.support.engines.vllm import VllmDouble
from tests.support.faulty_upstream import upstream

pytestmark = pytest.mark.integration

Double = VllmDouble | SglangDouble
ENGINES: dict[str, Callable[[], Double]] = {
    "vllm": VllmDouble,
    "vllm, 3 tokens a chunk": lambda: VllmDouble(per_chunk=3),
    "sglang": SglangDouble,
    "sglang, incremental": lambda: SglangDouble(incremental=True),
}
SCHEMA = schema_grammar(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "tags": {"type": "array", "items": {"enum": ["a", "b-c"]}}},
        "required": ["name", "tags"],
        "additionalProperties": False,
    }
)
TOOLS = (
    '[{"type":"function","function":{"name":"weather","parameters":'
    '{"type":"object","properties":{"city":{"type":"string"}}}}}]'
)
CHAT = GenerateRequest("r", "m", "", messages=(ChatMessage("user", "Hello"),), max_tokens=24, temperature=0.0)
REQUESTS = {
    "chat": CHAT,
    "raw": GenerateRequest("r", "m", "Once upon a time", raw=True, max_tokens=24, temperature=0.0),
    "seeded": attrs.evolve(CHAT, temperature=1.0, seed=7),
    "least length": attrs.evolve(CHAT, min_tokens=20),
    "probabilities": attrs.evolve(CHAT, top_logprobs=1),
    "schema": attrs.evolve(CHAT, constraint=Constraint(SCHEMA), max_tokens=200),
    "tools": attrs.evolve(CHAT, tools=ToolUse(TOOLS, "hermes"), max_tokens=200),
}
ROUTES_BEHIND_THE_LOG = {
    "vllm": ["/detokenize", "/v1/completions"],
    "sglang": ["/v1/detokenize", "/generate"],
}
LOST = r"(in the middle of the answer|connection to the upstream broke); another"
TOOLS_THERE = attrs.evolve(CHAT, tools=ToolUse(TOOLS, "openai"), max_tokens=200)
"""The upstream reads the calls."""


@contextlib.asynccontextmanager
async def served(first: Double, second: Double, options: str) -> AsyncIterator[OpenAIBackend]:
    """A backend with two upstreams. The first one is asked while it works."""
    async with upstream(first) as a, upstream(second) as b:
        text = f"{a.url},model=m|{b.url},model=m,priority=1,{options},wait_s=2,retries=0"
        backend = OpenAIBackend(OpenAISettings.parse(text, name="m"), rng=random.Random(1))
        await backend.start()
        try:
            yield backend
        finally:
            await backend.close()


async def run(
    backend: OpenAIBackend,
    request: GenerateRequest,
    logged: Sequence[TokenDelta] = (),
    found: list[Output] | None = None,
) -> list[Output]:
    outputs: list[Output] = [] if found is None else found
    async with contextlib.aclosing(backend.generate(Job(("r", 1), request, tuple(logged)))) as stream:
        async for output in stream:
            outputs.append(output)  # noqa: PERF401 - the caller sees them if an error follows
    return outputs


def deltas(outputs: Sequence[Output]) -> list[TokenDelta]:
    return [delta for output in outputs for delta in output.deltas]


def told(outputs: Sequence[Output]) -> str:
    return "".join(delta.text for delta in deltas(outputs))


def seen(logged: Sequence[TokenDelta], outputs: Sequence[Output]) -> tuple[Any, ...]:
    """All that a client sees of an answer, and the ids."""
    found = [*logged, *deltas(outputs)]
    extras = [delta.extra for delta in found if delta.extra is not None]
    return (
        "".join(delta.text for delta in found),
        [delta.token for delta in found[:-1]],  # the token that ends an answer may have no id
        [extra.logprob for extra in extras if extra.logprob is not None],
        [extra.stop for extra in extras if extra.stop],
        outputs[-1].finish,
        outputs[-1].prompt_tokens,
    )


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("engine", ENGINES)
async def test_answer_goes_on_by_ids_exactly(engine: str, kind: str) -> None:
    """Wherever the connection breaks, the client sees a whole answer, and its counts are those of a whole answer."""
    request, first, second = REQUESTS[kind], ENGINES[engine](), ENGINES[engine]()
    options = f"engine={engine.partition(',')[0]}" + (",tools=hermes" if kind == "tools" else "")
    async with served(first, second, options) as backend:
        whole = await run(backend, request)
        size = len(deltas(whole))
        assert size > 12
        for cut in (1, 5, size // 2, size - 1):
            second.asked.clear()
            first.cuts = [cut]
            assert seen((), await run(backend, request)) == seen((), whole), cut
            assert len(second.asked) <= 5  # what the server is, at most, and the rest of the answer
    if kind == "tools":
        assert any(isinstance(piece, CallBegun) for piece in fold_answer(request, deltas(whole)))


@pytest.mark.parametrize("kind", ["chat", "schema", "tools"])
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
async def test_another_worker_goes_on_behind_the_log(engine: str, kind: str) -> None:
    """The log has the prompt's ids, so that nobody renders the chat template again."""
    request, double = REQUESTS[kind], ENGINES[engine]()
    options = f"engine={engine}" + (",tools=hermes" if kind == "tools" else "")
    async with served(double, ENGINES[engine](), options) as backend:
        whole = await run(backend, request)
    for cut in (1, len(whole) // 2):
        logged = deltas(whole[:cut])
        async with served(double, ENGINES[engine](), options) as backend:
            double.asked.clear()
            rest = await run(backend, request, logged)
        assert seen(logged, rest) == seen((), whole)
        assert double.asked[-2:] == ROUTES_BEHIND_THE_LOG[engine]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
async def test_stop_string_across_the_cut_ends_the_answer(engine: str) -> None:
    first = ENGINES[engine]()
    async with served(first, ENGINES[engine](), f"engine={engine}") as backend:
        text = told(await run(backend, CHAT))
        words = text.split(" ")
        stop = f"{words[4][-2:]} {words[5][:3]}"
        request = attrs.evolve(CHAT, stop=(stop,))
        whole = await run(backend, request)
        assert (told(whole), whole[-1].finish) == (text[: text.index(stop)], "stop")
        for cut in range(3, 8):
            first.cuts = [cut]
            assert seen((), await run(backend, request)) == seen((), whole)


@pytest.mark.parametrize("option", ["continue=chat", "continue=probe"])
async def test_chat_at_an_unknown_server_goes_on_by_text(option: str) -> None:
    """Two questions find out, once, whether the upstream continues a text."""
    first, second = VllmDouble(), VllmDouble()
    request = attrs.evolve(CHAT, temperature=1.0)
    async with served(first, second, option) as backend:
        whole = told(await run(backend, request))
        for _ in range(2):
            first.cuts = [6]
            outputs = await run(backend, request)
            assert (told(outputs), len(deltas(outputs)), outputs[-1].finish) == (whole, 24, "length")
    assert len(second.asked) == (2 if option == "continue=chat" else 4)


async def test_space_at_the_cut_is_neither_lost_nor_doubled() -> None:
    """A template drops the white space at the end of a message, and the model writes it again."""
    first, second = VllmDouble(parses_tools=False), VllmDouble(parses_tools=False)
    request = attrs.evolve(TOOLS_THERE, temperature=1.0)
    async with served(first, second, "continue=chat") as backend:
        whole = told(await run(backend, request))
        for cut in range(1, 16):
            first.cuts = [cut]
            assert told(await run(backend, request)) == whole


@pytest.mark.parametrize("request_", [CHAT, TOOLS_THERE], ids=["chat", "tools"])
async def test_greedy_answer_is_asked_for_again(request_: GenerateRequest) -> None:
    """What the client has is dropped, calls of tools included."""
    first, second = VllmDouble(takes_text=False), VllmDouble(takes_text=False)
    async with served(first, second, "continue=probe") as backend:
        whole = await run(backend, request_)
        for cut in (3, 20, 40):
            first.cuts = [cut]
            outputs = await run(backend, request_)
            assert fold_answer(request_, deltas(outputs)) == fold_answer(request_, deltas(whole))
            assert (len(deltas(outputs)), outputs[-1].finish) == (len(deltas(whole)), whole[-1].finish)
            assert outputs[-1].prompt_tokens == whole[-1].prompt_tokens


@pytest.mark.parametrize("request_", [CHAT, TOOLS_THERE], ids=["chat", "tools"])
async def test_answer_that_cannot_go_on_is_interrupted(request_: GenerateRequest) -> None:
    """The client learns of the first fault. Nothing but a beginning of the answer was shown."""
    request = attrs.evolve(request_, temperature=1.0)
    first, second = VllmDouble(takes_text=False), VllmDouble(takes_text=False)
    async with served(first, second, "continue=probe") as backend:
        whole = told(await run(backend, request))
        first.cuts, outputs = [20], list[Output]()
        with pytest.raises(Interrupted, match=LOST):
            await run(backend, request, (), outputs)
    assert whole.startswith(told(outputs))


async def test_refused_text_is_not_the_error_of_the_client() -> None:
    """A 400 on a continuation means that this upstream cannot continue. The error is that of the broken stream."""
    first, second = VllmDouble(takes_text=False), VllmDouble(takes_text=False)
    async with served(first, second, "continue=chat") as backend:
        first.cuts = [6]
        with pytest.raises(Interrupted, match=LOST):
            await run(backend, attrs.evolve(CHAT, temperature=1.0))


async def test_other_answer_is_no_continuation() -> None:
    first, second = VllmDouble(takes_text=False), VllmDouble(takes_text=False)
    async with served(first, second, "continue=probe") as backend:
        whole = await run(backend, CHAT)
        logged = [*deltas(whole)[:5], TokenDelta(-1, " something else")]
        outputs: list[Output] = []
        with pytest.raises(Interrupted, match="another answer"):
            await run(backend, CHAT, logged, outputs)
    assert not outputs


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
async def test_ids_never_go_to_another_vocabulary(engine: str) -> None:
    first = ENGINES[engine]()
    second = attrs.evolve(ENGINES[engine](), shift=1)
    async with served(first, second, f"engine={engine}") as backend:
        whole = told(await run(backend, CHAT))
        first.cuts = [6]
        assert told(await run(backend, CHAT)) == whole
    assert second.asked[-1] == "/v1/chat/completions"


@pytest.mark.parametrize(
    "double",
    [
        VllmDouble(tells_ids=False),
        SglangDouble(tells_ids=False),
        SglangDouble(reasoning_parser="qwen3"),
    ],
    ids=["vllm behind a proxy", "older sglang", "sglang that splits reasoning"],
)
async def test_server_that_lacks_a_route_serves_chats_by_text(double: Double) -> None:
    engine = "vllm" if isinstance(double, VllmDouble) else "sglang"
    double.cuts = [6]
    async with served(double, attrs.evolve(double, cuts=[]), f"engine={engine}") as backend:
        outputs = await run(backend, CHAT)
        assert told(outputs) == told(await run(backend, CHAT))


async def test_image_goes_to_the_chat_route() -> None:
    image = Image("data:image/png;base64,AAAA", 2)
    request = attrs.evolve(CHAT, messages=(ChatMessage("user", "hi", images=(image,)),))
    first, second = VllmDouble(), VllmDouble()
    async with served(first, second, "engine=vllm,images=data") as backend:
        outputs = await run(backend, request)
        assert all(delta.token == -1 for delta in deltas(outputs))
        first.cuts = [6]
        assert told(await run(backend, request)) == told(outputs)
