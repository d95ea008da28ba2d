"""A residual accepts exactly what the grammar accepts after the text so far."""

import random

import pytest

from llmactors.grammar.errors import TextRejected
from llmactors.grammar.gbnf import parse
from llmactors.grammar.json_schema.convert import schema_grammar
from llmactors.grammar.machine import GrammarMachine, machine_for
from llmactors.grammar.residual import residual
from llmactors.testing.schemas import SCHEMAS
from tests.support.grammar_walks import random_text


def residual_machine(grammar: str, prefix: str) -> GrammarMachine:
    return GrammarMachine(parse(residual(grammar, prefix)))


@pytest.mark.parametrize("name", SCHEMAS)
def test_residual_accepts_what_the_grammar_accepts(name: str) -> None:
    rng = random.Random(f"residual {name}")
    grammar = schema_grammar(SCHEMAS[name], strict=True)
    whole = machine_for(grammar)
    for _ in range(2):
        text = random_text(whole, rng)
        for cut in sorted({0, len(text), *rng.sample(range(len(text) + 1), min(4, len(text)))}):
            left = residual_machine(grammar, text[:cut])
            assert left.start.allowed == whole.start.advance(text[:cut]).allowed
            assert left.start.advance(text[cut:]).is_complete
            assert whole.start.advance(text[:cut] + random_text(left, rng)).is_complete


def test_residual_of_a_residual_is_a_residual() -> None:
    grammar = 'root ::= "[" (root ("," root)*)? "]" | "left" | "left-1"'
    assert residual_machine(residual(residual(grammar, "[["), "left"), ",").start.advance("[]],left-1]").is_complete


def test_complete_text_leaves_the_empty_text() -> None:
    assert residual('root ::= "ab"', "ab") == 'root ::= ""\n'


def test_residual_keeps_only_rules_that_are_needed() -> None:
    left = residual('root ::= first second\nfirst ::= "a"\nsecond ::= third\nthird ::= [b-c] | root', "a")
    assert set(parse(left).rules) == {"root", "second", "third", "left-root", "first"}
    assert set(parse(residual('root ::= first "b"\nfirst ::= "a"', "a")).rules) == {"root"}


def test_residual_of_deep_nesting_is_small() -> None:
    grammar = schema_grammar({"type": "array", "items": {"$ref": "#"}})
    left = residual(grammar, "[" * 500)
    assert len(left) < 60 * 500
    assert GrammarMachine(parse(left)).start.advance("]" * 500).is_complete


def test_text_outside_the_grammar_has_no_residual() -> None:
    with pytest.raises(TextRejected):
        residual('root ::= "ab"', "b")
