"""The machine accepts exactly the texts of a grammar, and knows what may come next."""

import itertools
import re

import pytest

from llmactors.grammar.characters import CharSet
from llmactors.grammar.errors import TextRejected, TooManyStacks
from llmactors.grammar.gbnf import parse
from llmactors.grammar.machine import GrammarMachine, machine_for
from llmactors.grammar.shortest import ShortestEnds

ALIKE = {
    'root ::= "a"* "b"': "a*b",
    "root ::= [ab]{2,3}": "[ab]{2,3}",
    'root ::= ("ab" | "a")? "b"{0,2}': "(ab|a)?b{0,2}",
    'root ::= x x | "b"\nx ::= "a" | "ab" | ""': "(a|ab|)(a|ab|)|b",
    'root ::= [^a] . "c"?': "[^a].c?",
    'root ::= ("a" "b"?){2,} "c"': "(ab?){2,}c",
    'root ::= (("a" | "b")? "c"?){3}': "((a|b)?c?){3}",
}


@pytest.mark.parametrize("grammar", ALIKE)
def test_machine_accepts_what_the_regular_expression_does(grammar: str) -> None:
    pattern = re.compile(ALIKE[grammar])
    for size in range(6):
        for letters in itertools.product("abc", repeat=size):
            text = "".join(letters)
            try:
                complete = machine_for(grammar).start.advance(text).is_complete
            except TextRejected:
                complete = False
            assert complete == (pattern.fullmatch(text) is not None), text


def test_state_knows_what_may_come_next() -> None:
    state = machine_for('root ::= "{" ("x" | [0-9]+) "}"').start
    assert state.allowed == CharSet.chars("{")
    assert state.advance("{").allowed == CharSet.chars("0123456789x")
    after = state.advance("{12")
    assert (after.allowed, after.is_complete, after.may_continue) == (CharSet.chars("0123456789}"), False, True)
    end = after.advance("}")
    assert (bool(end.allowed), end.is_complete, end.may_continue) == (False, True, False)
    assert not end.accepts("}")


def test_rejected_text_is_named() -> None:
    with pytest.raises(TextRejected, match=r"'c' is not allowed after 'ab'"):
        machine_for('root ::= "abd"').start.advance("abc")


def test_nested_recursion_needs_no_python_stack() -> None:
    text = "[" * 5000
    state = machine_for('root ::= "[" root? "]"').start.advance(text)
    assert state.advance("]" * 5000).is_complete


def test_too_many_ways_are_refused() -> None:
    grammar = parse('root ::= b{0,1900} "."\nb ::= a | a a | a a a\na ::= "x" | "x" "y"?')
    with pytest.raises(TooManyStacks):
        GrammarMachine(grammar, max_stacks=30).start.advance("xy" * 1000)


def test_equal_states_are_one_object() -> None:
    start = machine_for('root ::= "[" (root ("," root)*)? "]" | "1"+').start
    assert start.advance("[1,1") is start.advance("[11111,111")


def test_shortest_end_is_found() -> None:
    machine = machine_for('root ::= "(" root ")" | long | "<" [a-z]{3} ">"\nlong ::= "xxxxxxxx"')
    ends = ShortestEnds(machine)
    state = machine.start.advance("((")
    assert ends.length(state) == 7
    assert ends.towards(state) == CharSet.chars("<")
    assert ends.length(machine.start.advance("(x")) == 8
