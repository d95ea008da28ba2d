"""The text of a grammar is read as llama.cpp reads it, and what llama.cpp cannot take is refused."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.errors import InvalidRequest
from llmactors.grammar.characters import ANY, CharSet
from llmactors.grammar.errors import GrammarError
from llmactors.grammar.expressions import Choice, Expression, Grammar, Literal, Reference, Repetition, Sequence
from llmactors.grammar.gbnf import parse, write

EVERY_FORM = r"""
# a comment
root ::= "lit" [a-c0-9_-] ( item |
    "x" )* # another
item ::= . "\"\\\n\r\t\x41\u00e9\U0001F600" {2}
  # a line of its own
more ::= [^"\\\x00-\x1F\]] {1,3} [+*-] {2,} other{0,1}
other ::= "" | more?  | ( "a" "b"+ )
"""


def test_every_form_is_read() -> None:
    rules = parse(EVERY_FORM).rules
    letters = CharSet.of([(0x61, 0x63), (0x30, 0x39), (0x5F, 0x5F), (0x2D, 0x2D)])
    group = Repetition(Choice((Reference("item"), Literal("x"))), 0, None)
    assert rules["root"] == Sequence((Literal("lit"), letters, group))
    assert rules["item"] == Sequence((ANY, Repetition(Literal('"\\\n\r\tA\u00e9\U0001f600'), 2, 2)))
    inside = ~(CharSet.chars('"\\]') | CharSet.of([(0, 0x1F)]))
    signs = Repetition(CharSet.chars("+*-"), 2, None)
    assert rules["more"] == Sequence((Repetition(inside, 1, 3), signs, Repetition(Reference("other"), 0, 1)))
    last = Sequence((Literal("a"), Repetition(Literal("b"), 1, None)))
    assert rules["other"] == Choice((Sequence(()), Repetition(Reference("more"), 0, 1), last))


def test_written_grammar_is_read_as_the_same() -> None:
    once = parse(EVERY_FORM)
    assert parse(write(once)) == once


CHARS = st.characters(exclude_categories=["Cs"])
EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(
    st.one_of(
        st.text(CHARS, min_size=1, max_size=4).map(Literal),
        st.text(CHARS, min_size=1, max_size=4).map(CharSet.chars),
        st.text(CHARS, min_size=1, max_size=3).map(lambda text: ~CharSet.chars(text)),
        st.just(Reference("leaf")),
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda items: Sequence(tuple(items))),
        st.lists(inner, min_size=2, max_size=3).map(lambda options: Choice(tuple(options))),
        st.tuples(inner, st.integers(0, 2), st.integers(0, 2)).map(
            lambda made: Repetition(made[0], made[1], made[1] + made[2] + 1)
        ),
    ),
    max_leaves=8,
)


@given(EXPRESSIONS)
def test_any_grammar_survives_writing_and_reading(expression: Expression) -> None:
    text = write(Grammar({"root": expression, "leaf": Literal("leaf")}))
    assert write(parse(text)) == write(parse(write(parse(text))))


REFUSED = {
    "": "no rule `root`",
    "a ::= [0-9]": "no rule `root`",
    "root = [0-9]": "expected `::=`",
    "root ::= <think> [0-9]": "`<think>`",
    "root ::= !<[12]>": "token",
    "root ::= missing": "`missing`, which is not defined",
    'root ::= "a': "without its closing quote",
    "root ::= [a": "without its closing bracket",
    "root ::= []": "empty character class",
    "root ::= [z-a]": "wrong order",
    'root ::= "\\q"': "unknown escape",
    'root ::= "\\U00110000"': "there is no character 0x110000",
    "root ::= ( [0-9]": "expected `)`",
    "root ::= [0-9] )": "expected the end of the line",
    "root ::= * [0-9]": "nothing to repeat",
    'root ::= "" *': "nothing to repeat",
    "root ::= [0-9]{3,2}": "a maximum below its minimum",
    "root ::= [0-9]{x}": "expected counts",
    "root ::= [0-9]{2000}": "above 1999",
    "root ::= ([0-9]{0,50} | [a-z]){100}": "make the group a rule",
    "root ::= a\na ::= b{1999}\nb ::= c{1999}\nc ::= " + '"0123456789012345678901234567890123456789"{1999}': "80000",
    "root ::= root [0-9] | [0-9]": "left recursion",
    "root ::= a\na ::= b [0-9] | [0-9]\nb ::= a?": "left recursion",
    "root ::= ([0-9]?)*": "left recursion",
    "root ::= [0-9] root": "can never end",
    'root ::= "a"\nroot ::= "b"': "defined twice",
    "root ::= " + "(" * 50 + "[0-9]" + ")" * 50: "nested more than 40",
    "root ::= " + "a " * 5000 + "\na ::= [0-9]": "more than 4000 symbols",
    "root ::= [0-9]\n" + "".join(f"r{number} ::= [0-9]\n" for number in range(2000)): "more than 1000 rules",
    "root ::= [0-9] #" + "x" * 40_000: "40016 characters",
    "root ::= [0-9] #\0": "null character",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_bad_grammar_is_refused_with_its_reason(text: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(GrammarError) as raised:
        parse(text)
    assert time.perf_counter() - begun < 0.2
    assert REFUSED[text] in raised.value.message
    assert isinstance(raised.value, InvalidRequest)


@pytest.mark.parametrize(
    ("chars", "written"),
    [("+-9", r"[+\-9]"), ("\\b", r"[\\b]"), ("^a", r"[a\x5E]"), ("^", r"[\x5E]"), ("[]", r"[\[\]]")],
)
def test_classes_are_written_for_xgrammar_too(chars: str, written: str) -> None:
    r"""XGrammar reads escapes twice in a class: `\x2D` is the sign of a range there, and `\x5Cb` is an escape."""
    text = write(Grammar({"root": CharSet.chars(chars)}))
    assert text == f"root ::= {written}\n"
    assert parse(text).rules["root"] == CharSet.chars(chars)
