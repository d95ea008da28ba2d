"""llama.cpp itself takes every grammar that a schema becomes, and the residual of each."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from llmactors.backends.llama.backend import LlamaBackend
from llmactors.backends.llama.settings import LlamaSettings
from llmactors.errors import InvalidRequest
from llmactors.grammar.json_schema.convert import choice_grammar, json_object, schema_grammar
from llmactors.grammar.machine import machine_for
from llmactors.grammar.residual import residual
from llmactors.testing.schemas import SCHEMAS
from tests.support.grammar_walks import random_text

pytestmark = [pytest.mark.integration, pytest.mark.model, pytest.mark.timeout(240)]


@pytest.fixture
async def backend(gguf: Path) -> AsyncIterator[LlamaBackend]:
    made = LlamaBackend(gguf, LlamaSettings(slots=2, context_tokens=256, threads=1))
    try:
        await made.start()
        yield made
    finally:
        await made.close()


async def test_llama_takes_every_grammar(backend: LlamaBackend) -> None:
    grammars = {"object": json_object(), "choice": choice_grammar(["one", "two", "\u00e9 \U0001f600\n"])}
    for number, (name, schema) in enumerate(SCHEMAS.items()):
        grammar = grammars[name] = schema_grammar(schema)
        if number % 5 == 0:
            rng = random.Random(name)
            text = random_text(machine_for(grammar), rng)
            grammars[f"rest of {name}"] = residual(grammar, text[: rng.randint(1, len(text))])
    refused: dict[str, str] = {}

    async def ask(names: list[str]) -> None:
        for name in names:
            sampling = {"grammar": grammars[name], "samplers": ["top_k"], "top_k": 1}
            try:
                await backend._client.complete([1, 2, 3], 1, sampling, cache=True)
            except InvalidRequest as error:
                refused[name] = error.message

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, list(grammars)[::2])
        nursery.start_soon(ask, list(grammars)[1::2])
    assert not refused
    with pytest.raises(InvalidRequest, match="grammar"):
        await backend._client.complete([1], 1, {"grammar": "root ::= ("}, cache=True)
