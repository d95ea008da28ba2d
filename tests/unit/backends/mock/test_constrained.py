"""The mock's answers under a constraint follow the grammar, and are a function of request and seq."""

import pytest

from llmactors.backends.base import Job
from llmactors.backends.mock.backend import MockBackend
from llmactors.backends.mock.oracle import MockSequence, mock_text, mock_tokens
from llmactors.errors import InvalidRequest
from llmactors.grammar.json_schema.convert import json_object, schema_grammar
from llmactors.grammar.machine import machine_for
from llmactors.messages import Constraint, GenerateRequest
from llmactors.testing.schemas import SCHEMAS

CALL = Constraint('root ::= "<call>" [a-z]{2,9} ("(" [0-9]{3} ")")? "</call>"', trigger="<call>")


def ask(constraint: Constraint, prompt: str = "hi", max_tokens: int = 60, **fields: object) -> GenerateRequest:
    return GenerateRequest("r", "m", prompt, max_tokens=max_tokens, constraint=constraint, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SCHEMAS)
def test_answer_follows_its_grammar_to_the_end(name: str) -> None:
    grammar = schema_grammar(SCHEMAS[name])
    for prompt in ("one", "two"):
        deltas, finish = mock_tokens(ask(Constraint(grammar), prompt, 140))
        state = machine_for(grammar).start.advance("".join(delta.text for delta in deltas))
        assert (finish, state.is_complete) == ("stop", True)
        assert all(1 <= len(delta.text) <= 6 for delta in deltas[:-1])


def test_takeover_from_any_token_goes_on_exactly() -> None:
    for constraint in (CALL, Constraint(json_object())):
        for number in range(6):
            request = ask(constraint, f"prompt {number}", 30, stop=("zz", "}"))
            whole, finish = mock_tokens(request)
            for taken in range(len(whole)):
                sequence = MockSequence(request, taken=taken)
                rest = []
                while sequence.finish is None:
                    rest.append(sequence.advance())
                assert (tuple(rest), sequence.finish) == (whole[taken:], finish)
            assert MockSequence(request, taken=len(whole)).finish == finish


def test_about_half_of_the_prompts_come_to_the_trigger() -> None:
    answers = [mock_tokens(ask(CALL, f"prompt {number}", 30)) for number in range(200)]
    texts = ["".join(delta.text for delta in deltas) for deltas, _ in answers]
    called = [text for text in texts if "<call>" in text]
    assert 80 <= len(called) <= 120
    for text, (_, finish) in zip(texts, answers, strict=True):
        assert finish == ("stop" if "<call>" in text else "length")
        if "<call>" in text:
            free, _, _ = text.partition("<call>")
            assert 1 <= len(free.split()) <= 4
            assert machine_for(CALL.grammar).start.advance(text[len(free) :]).is_complete


def test_answer_with_few_tokens_left_takes_the_shortest_end() -> None:
    for number in range(20):
        deltas, finish = mock_tokens(ask(Constraint(json_object()), f"prompt {number}", 4))
        assert finish == "stop", deltas


def test_seed_chooses_another_answer() -> None:
    assert mock_text(ask(Constraint(json_object()), seed=1)) != mock_text(ask(Constraint(json_object()), seed=2))


def test_empty_grammar_ends_with_one_token_without_text() -> None:
    deltas, finish = mock_tokens(ask(Constraint('root ::= ""')))
    assert ([delta.text for delta in deltas], finish) == ([""], "stop")


def test_constrained_answers_are_the_same_in_every_version() -> None:
    plan = Constraint(schema_grammar(SCHEMAS["plan"], strict=True))
    assert (
        mock_text(ask(plan, "prompt", 20))
        == '{ "goal":"H@*743Z\U000cebd8(!TP{Rv\\roOrZ:,5tVt\U0005f401\U0010539d]BCy\U00079e97","steps":[] }'
    )
    assert mock_text(ask(CALL, "prompt 0")) == " frost90bc mist5f58 sagef28a dusk4e4f<call>hukpygltf(214)</call>"


async def test_grammar_that_cannot_be_served_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="line 1: expected"):
        await MockBackend().admit(Job(("r", 1), ask(Constraint("root ::= ("))))
