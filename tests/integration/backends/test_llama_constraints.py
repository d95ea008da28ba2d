"""The real model under a constraint: a takeover at any token leaves one valid answer."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import attrs
import jsonschema
import pytest
import trio

from llmactors.backends.base import Job, Output
from llmactors.backends.llama.backend import LlamaBackend
from llmactors.backends.llama.settings import LlamaSettings
from llmactors.errors import Interrupted, InvalidRequest
from llmactors.grammar.json_schema.convert import schema_grammar
from llmactors.grammar.machine import machine_for
from llmactors.messages import Constraint, GenerateRequest, TokenDelta
from llmactors.testing.schemas.objects import closed

pytestmark = [pytest.mark.integration, pytest.mark.model, pytest.mark.timeout(240)]

SCHEMA = closed(
    name={"type": "string", "maxLength": 8},
    age={"type": "integer", "minimum": 18, "maximum": 99},
    likes={"type": "array", "items": {"enum": ["art", "music", "sports"]}, "maxItems": 2},
)
"""Each answer is short, whatever the model writes into it."""
ASK = GenerateRequest(
    "r",
    "m",
    "Invent a user. Answer as JSON.",
    max_tokens=100,
    temperature=0,
    constraint=Constraint(schema_grammar(SCHEMA, strict=True)),
)


SETTINGS = LlamaSettings(slots=4, context_tokens=512)


@pytest.fixture
async def backend(gguf: Path) -> AsyncIterator[LlamaBackend]:
    made = LlamaBackend(gguf, SETTINGS)
    try:
        await made.start()
        yield made
    finally:
        await made.close()


async def answer(
    backend: LlamaBackend, request: GenerateRequest, logged: Sequence[TokenDelta] = ()
) -> tuple[list[TokenDelta], str | None]:
    outputs: list[Output] = [output async for output in backend.generate(Job(("r", 1), request, tuple(logged)))]
    return [*logged, *(delta for output in outputs for delta in output.deltas)], outputs[-1].finish


def text_of(deltas: Sequence[TokenDelta]) -> str:
    return "".join(delta.text for delta in deltas)


def assert_valid(deltas: Sequence[TokenDelta], finish: str | None) -> None:
    assert finish == "stop"
    jsonschema.validate(json.loads(text_of(deltas)), SCHEMA)


async def test_takeover_under_a_schema_is_valid(backend: LlamaBackend) -> None:
    """With a seed: the same answer. Without a seed: a valid answer."""
    for request in (attrs.evolve(ASK, temperature=1.2, seed=3), attrs.evolve(ASK, temperature=1.2)):
        whole, finish = await answer(backend, request)
        assert_valid(whole, finish)
        results: dict[int, tuple[list[TokenDelta], str | None]] = {}

        async def take_over(
            cut: int,
            request: GenerateRequest = request,
            whole: list[TokenDelta] = whole,
            results: dict[int, tuple[list[TokenDelta], str | None]] = results,
        ) -> None:
            results[cut] = await answer(backend, request, whole[:cut])

        async with trio.open_nursery() as nursery:
            for cut in (1, len(whole) // 2, len(whole) - 1):
                nursery.start_soon(take_over, cut)
        for cut, (deltas, ended) in results.items():
            assert_valid(deltas, ended)
            if request.seed is not None:
                assert deltas == whole
            if cut >= len(whole) - 1:
                assert text_of(deltas) == text_of(whole)


async def complete_answer_ends_without_another_token(backend: LlamaBackend) -> None:
    request = attrs.evolve(ASK, temperature=1.2)
    whole, _ = await answer(backend, request)
    lost = [delta for delta in whole if delta.text]  # without the token that ends the answer
    assert await answer(backend, request, lost) == (lost, "stop")


async def complete_answer_keeps_text_held_back(backend: LlamaBackend) -> None:
    """The last brace may begin a stop string, so it is not in the log yet when only the end of the answer is lost."""
    request = attrs.evolve(ASK, temperature=1.2, stop=("} and more",))
    whole, _ = await answer(backend, request)
    lost = [delta for delta in whole if backend._vocabulary.piece(delta.token)]
    assert not text_of(lost).endswith("}")
    found, finish = await answer(backend, request, lost)
    assert (text_of(found), finish) == (text_of(whole), "stop")


async def answer_outside_its_grammar_is_interrupted(backend: LlamaBackend) -> None:
    request = attrs.evolve(ASK, temperature=1.2)
    free, _ = await answer(backend, attrs.evolve(ASK, constraint=None, max_tokens=5))
    with pytest.raises(Interrupted, match="cannot be continued"):
        await answer(backend, request, free)


async def wrong_grammar_is_refused(backend: LlamaBackend) -> None:
    with pytest.raises(InvalidRequest, match="grammar"):
        await answer(backend, attrs.evolve(ASK, constraint=Constraint("root ::= (")))


async def test_ends_of_constrained_answers(backend: LlamaBackend) -> None:
    """One child process serves all four cases."""
    await complete_answer_ends_without_another_token(backend)
    await complete_answer_keeps_text_held_back(backend)
    await answer_outside_its_grammar_is_interrupted(backend)
    await wrong_grammar_is_refused(backend)


CALL = Constraint('root ::= " fox" " {" [a-z]{3,5} "}"', trigger=" fox")
STORY = attrs.evolve(ASK, prompt="Write a short story about a fox.", max_tokens=60, constraint=CALL)


async def lazy_grammar_holds_from_its_trigger_on(backend: LlamaBackend) -> None:
    for request in (STORY, attrs.evolve(STORY, temperature=0.6, seed=1)):
        whole, finish = await answer(backend, request)
        free, trigger, call = text_of(whole).partition(" fox")
        assert free
        assert trigger
        assert finish == "stop"
        assert machine_for(CALL.grammar).start.advance(trigger + call).is_complete
        for cut in (1, len(whole) - 3, len(whole)):
            assert await answer(backend, request, whole[:cut]) == (whole, finish)


async def token_beyond_the_trigger_does_not_fail(backend: LlamaBackend) -> None:
    """The only token of the model that holds the trigger goes on with a text that the grammar does not allow."""
    (token,) = (number for number, piece in enumerate(backend._vocabulary.pieces) if piece == b"({")
    constraint = Constraint('root ::= "(" [0-9]{3} ")"', trigger="(")
    request = attrs.evolve(STORY, constraint=constraint, logit_bias=((token, 100.0),))
    for temperature, seed in ((0.0, None), (0.5, None), (0.5, 4)):
        deltas, finish = await answer(backend, attrs.evolve(request, temperature=temperature, seed=seed))
        assert finish == "stop"
        assert machine_for(constraint.grammar).start.advance(text_of(deltas)).is_complete


async def test_lazy_grammars(backend: LlamaBackend) -> None:
    """One child process serves both cases."""
    await lazy_grammar_holds_from_its_trigger_on(backend)
    await token_beyond_the_trigger_does_not_fail(backend)


async def lazy_continuation_keeps_one_call(backend: LlamaBackend) -> None:
    """The log ends before, in and after the trigger; the trigger has several tokens."""
    constraint = Constraint('root ::= " clever fox" " {" [a-z]{3,5} "}"', trigger=" clever fox")
    request = attrs.evolve(STORY, prompt="Repeat: The quick and clever fox jumps.", constraint=constraint)
    whole, finish = await answer(backend, request)
    assert finish == "stop"
    assert text_of(whole).count("{") == 1
    for cut in range(len(whole) + 1):
        deltas, ended = await answer(backend, request, whole[:cut])
        text = text_of(deltas)
        assert ended == "stop"
        begin = text.index(" clever fox")
        assert machine_for(constraint.grammar).start.advance(text[begin:]).is_complete, (cut, text)


async def test_continuation_follows_the_residual_grammar(gguf: Path) -> None:
    """A backend that does not make logged tokens again sends what is left of the grammar."""
    backend = LlamaBackend(gguf, attrs.evolve(SETTINGS, reproducible=False))
    try:
        await backend.start()
        whole, _ = await answer(backend, ASK)
        for cut in (1, 5, len(whole) // 2, len(whole) - 1):
            assert_valid(*await answer(backend, ASK, whole[:cut]))
        await lazy_continuation_keeps_one_call(backend)
    finally:
        await backend.close()
