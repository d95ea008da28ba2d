"""A crash at any token of a constrained answer: the answer is valid, and it is that of an undisturbed run."""

import json

import jsonschema
import pytest
from trio.testing import MockClock

from llmactors.backends.mock.backend import MockSettings
from llmactors.grammar.json_schema.convert import schema_grammar
from llmactors.messages import Constraint
from llmactors.testing.schemas import NEWEST_SCHEMAS, SCHEMAS
from tests.virtual.batcher.conftest import World, codes

TOKENS = 24
"""Most answers have fewer tokens; the others take the shortest end, and are valid too."""
GRAMMARS = {name: schema_grammar(schema, strict=True) for name, schema in SCHEMAS.items()}
"""Schemas of older dialects than that of the validator."""
CALL = Constraint('root ::= "<call>" [a-z]{2,9} ("(" [0-9]{3} ")")? "</call>"', trigger="<call>")


async def run(world: World, constraints: dict[str, Constraint], max_tokens: int = TOKENS) -> None:
    async with world.running():
        for name, constraint in constraints.items():
            await world.submit(name, max_tokens, constraint=constraint, seed=1)


@pytest.mark.parametrize("token", range(1, TOKENS + 1))
async def test_crash_at_any_token_keeps_every_answer_valid(autojump_clock: MockClock, token: int) -> None:
    """All schemas of the table at once. The world compares each answer with the answer of an undisturbed backend."""
    world = World(MockSettings(step_ms=1, slots=len(GRAMMARS), crash_at=token, crash_times=1))
    await run(world, {name: Constraint(grammar) for name, grammar in GRAMMARS.items()})
    assert world.faults.faults == 1
    cut = 0
    for stream in world.streams:
        name, text = stream.request.prompt, "".join(delta.text for delta in stream.tokens)
        cut += stream.code == "length"
        if stream.code == "stop":
            checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
            jsonschema.Draft202012Validator(NEWEST_SCHEMAS[name], format_checker=checker).validate(json.loads(text))
    assert cut <= 4, "only answers that need more than 24 tokens are cut"


@pytest.mark.parametrize("token", range(1, 16))
async def test_crash_before_in_and_after_a_trigger_changes_nothing(autojump_clock: MockClock, token: int) -> None:
    world = World(MockSettings(step_ms=1, slots=20, crash_at=token, crash_times=1))
    await run(world, {f"prompt {number}": CALL for number in range(20)}, max_tokens=16)
    called = [stream for stream in world.streams if stream.code == "stop"]
    assert 5 <= len(called) <= 15
    for stream in called:
        assert "".join(delta.text for delta in stream.tokens).endswith("</call>")
    assert set(codes(world)) == {"stop", "length"}
