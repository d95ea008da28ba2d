"""llama.cpp's own OpenAI routes as the upstream."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio

from llmactors.backends.base import Job, Output
from llmactors.backends.llama.backend import LlamaBackend
from llmactors.backends.llama.settings import LlamaSettings
from llmactors.backends.openai import OpenAIBackend, OpenAISettings
from llmactors.errors import InvalidRequest
from llmactors.grammar.json_schema.convert import schema_grammar
from llmactors.messages import Constraint, GenerateRequest, TokenDelta
from llmactors.testing.node import wait_until
from tests.support.llama_slots import busy_slots

pytestmark = [pytest.mark.integration, pytest.mark.model]

PROMPT = "The capital of France is"


@contextlib.asynccontextmanager
async def served(path: Path, options: str = "continue=raw") -> AsyncIterator[tuple[LlamaBackend, OpenAIBackend]]:
    llama = LlamaBackend(path, LlamaSettings(slots=2, context_tokens=512, threads=1))
    await llama.start()
    try:
        assert llama._connected is not None
        settings = OpenAISettings.parse(f"{llama._connected.url}/v1,model=any,{options}")
        remote = OpenAIBackend(settings, keys=(llama._config.api_key,))
        await remote.start()
        yield llama, remote
        await remote.close()
    finally:
        await llama.close()


def job(
    prompt: str = PROMPT, *logged: str, max_tokens: int = 12, raw: bool = True, top_logprobs: int | None = None
) -> Job:
    request = GenerateRequest(
        "r", "m", prompt, max_tokens=max_tokens, temperature=0.0, raw=raw, top_logprobs=top_logprobs
    )
    return Job(("r", 1), request, tuple(TokenDelta(-1, text) for text in logged))


async def run(remote: OpenAIBackend, what: Job) -> list[Output]:
    async with contextlib.aclosing(remote.generate(what)) as outputs:
        return [output async for output in outputs]


def told(outputs: list[Output]) -> str:
    return "".join(delta.text for output in outputs for delta in output.deltas)


async def test_both_routes_continue_and_refuse(gguf: Path) -> None:
    async with served(gguf) as (_, remote):
        whole = await run(remote, job())
        rest = await run(remote, job(PROMPT, whole[0].deltas[0].text))
        chat = await run(remote, job(raw=False))
        scored = [await run(remote, job(raw=raw, top_logprobs=2)) for raw in (True, False)]
        with pytest.raises(InvalidRequest, match="context"):
            await run(remote, job("word " * 3000))

    assert sum(len(output.deltas) for output in whole) == 12
    assert (whole[-1].finish, whole[-1].prompt_tokens) == ("length", 5)
    assert whole[0].deltas[0].text + told(rest) == told(whole)
    assert chat[-1].prompt_tokens > 5  # the template's tokens
    for outputs, plain in zip(scored, (whole, chat), strict=True):
        assert told(outputs) == told(plain)
        extras = [delta.extra for output in outputs for delta in output.deltas if delta.extra is not None]
        found = [extra.logprob for extra in extras if extra.logprob is not None]
        assert b"".join(each.utf8 for each in found).decode() == told(plain)
        assert all(len(each.top) == 2 for each in found)


async def test_cancel_frees_the_slot(gguf: Path) -> None:
    async with served(gguf) as (llama, remote):
        client = llama._connected
        assert client is not None
        async with contextlib.aclosing(remote.generate(job("Once upon a time", max_tokens=400))) as outputs:
            await anext(outputs)
            assert await busy_slots(client) == 1
        with trio.fail_after(1):
            while await busy_slots(client):  # noqa: ASYNC110 - llama.cpp sends no event for this
                await trio.sleep(0.005)
        await wait_until(lambda: "running=0" in repr(remote))


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[a-z\\\\-]{2,8}$"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
BY_IDS = {
    "emoji": attrs.evolve(job("Say \N{GRINNING FACE}\N{ROCKET} twice", raw=False).request, top_logprobs=2),
    "schema": attrs.evolve(
        job("A person", raw=False, max_tokens=30).request, constraint=Constraint(schema_grammar(PERSON))
    ),
    "stop": attrs.evolve(job("Count from one to ten", raw=False).request, stop=("\n\n", "three")),
}


async def test_chats_go_on_by_ids(gguf: Path) -> None:
    """Behind the first half of the log, the rest is that of the whole answer."""
    async with served(gguf, "engine=llamacpp") as (_, remote):
        for kind, request in BY_IDS.items():
            whole = await run(remote, Job(("r", 1), request))
            deltas = [delta for output in whole for delta in output.deltas]
            assert deltas[0].extra is not None
            assert deltas[0].extra.prompt is not None
            assert len(deltas[0].extra.prompt.ids) == whole[-1].prompt_tokens
            logged = tuple(delta for output in whole[: len(whole) // 2] for delta in output.deltas)
            rest = await run(remote, Job(("r", 2), request, logged))
            text = "".join(delta.text for delta in logged) + told(rest)
            assert (text, rest[-1].finish) == (told(whole), whole[-1].finish), kind
            assert len(logged) + sum(len(output.deltas) for output in rest) == len(deltas)
            assert rest[-1].prompt_tokens == whole[-1].prompt_tokens
