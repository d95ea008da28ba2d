"""Grammars that need too many ways at once are refused before llama.cpp has to follow them."""

import time

import pytest

from llmactors.grammar.ambiguity import check_ambiguity
from llmactors.grammar.errors import SchemaError, TooManyStacks
from llmactors.grammar.gbnf import parse
from llmactors.grammar.json_schema.convert import regex_grammar, schema_grammar
from llmactors.testing.schemas import SCHEMAS

AMBIGUOUS = ["^(a{1,30}){1,30}b$", "^((a{1,20}){1,20}){1,20}b$", "a{1,999}a{1,999}", "^(a?){1,500}$"]
CLEAR = ["^[a-z]{1,1999}$", "^([a-z]{3}-){1,400}x$", "(a|aa|aaa)+b", ".*a.*b.*c.*d", "^([a-z0-9]+(-[a-z0-9]+)*)$"]


@pytest.mark.parametrize("pattern", AMBIGUOUS)
def test_ambiguous_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(SchemaError, match=r"\$\.pattern: the grammar is too ambiguous"):
        schema_grammar({"pattern": pattern})


@pytest.mark.parametrize("pattern", CLEAR)
def test_pattern_with_high_counts_is_served(pattern: str) -> None:
    schema_grammar({"pattern": pattern})


def test_few_patterns_have_to_be_tried() -> None:
    schema = {"properties": {f"p{number}": {"pattern": f"^[a-z]{{1,{500 + number}}}$"} for number in range(6)}}
    with pytest.raises(SchemaError, match=r"\$\.properties\.p5\.pattern: .* more than 5 patterns"):
        schema_grammar(schema)


def test_ambiguous_grammar_is_found_from_its_root() -> None:
    begun = time.thread_time()
    with pytest.raises(TooManyStacks):
        check_ambiguity(parse('root ::= "<" x{1,100}\nx ::= "a"{1,100}'))
    assert time.thread_time() - begun < 0.2


def test_grammars_of_the_table_are_not_ambiguous() -> None:
    for schema in SCHEMAS.values():
        check_ambiguity(parse(schema_grammar(schema)))


def test_ambiguous_regular_expression_is_refused() -> None:
    with pytest.raises(TooManyStacks):
        regex_grammar("(a{1,30}){1,30}b")
    regex_grammar("[a-z]{1,1999}")
