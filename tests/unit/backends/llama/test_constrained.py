"""What llama.cpp is told about a constraint behind logged tokens."""

import re

import pytest

from llmactors.backends.base import Capabilities, Takeover
from llmactors.backends.llama.constrained import rest_of_constraint, whole_constraint
from llmactors.errors import Interrupted
from llmactors.grammar.machine import machine_for
from llmactors.messages import Constraint, GenerateRequest

PLAIN = Constraint('root ::= "[" [0-9]+ ("," [0-9]+)* "]"')
CALL = Constraint('root ::= "<call>" [a-z]+ "</call>"', trigger="<call>")


def accepts(grammar: str, text: str) -> bool:
    state = machine_for(grammar).start
    return state.accepts(text) and state.advance(text).is_complete


def test_answer_begins_with_the_whole_constraint() -> None:
    assert whole_constraint(PLAIN) == {"grammar": PLAIN.grammar}
    lazy = {"grammar_lazy": True, "grammar_triggers": [{"type": 2, "value": "(<call>)"}]}
    assert whole_constraint(CALL) == {"grammar": CALL.grammar} | lazy


def test_trigger_is_quoted_for_a_regular_expression() -> None:
    (trigger,) = whole_constraint(Constraint("", trigger='[{"a": (1+2)*3.|^$?\\'))["grammar_triggers"]
    assert re.search(trigger["value"], 'x[{"a": (1+2)*3.|^$?\\')


def test_rest_is_what_the_grammar_leaves() -> None:
    rest = rest_of_constraint(PLAIN, b"[12")
    assert rest.fields.keys() == {"grammar"}
    assert accepts(rest.fields["grammar"], "3,4]")
    assert not accepts(rest.fields["grammar"], "[3]")
    assert not rest.is_complete


def test_complete_answer_needs_nothing_more() -> None:
    assert rest_of_constraint(PLAIN, b"[12]").is_complete
    assert rest_of_constraint(CALL, b"Well, <call>a</call>").is_complete
    assert not rest_of_constraint(Constraint('root ::= "a"+'), b"a").is_complete


def test_text_before_the_trigger_leaves_the_lazy_grammar() -> None:
    assert rest_of_constraint(CALL, b"Well, ").fields == whole_constraint(CALL)
    assert rest_of_constraint(CALL, b"").fields == whole_constraint(CALL)


def test_free_text_may_hold_any_bytes() -> None:
    assert rest_of_constraint(CALL, b"Well\xff, \xf0\x9f").fields == whole_constraint(CALL)
    assert rest_of_constraint(CALL, b"Well\xff, <call>a").fields.keys() == {"grammar"}
    with pytest.raises(Interrupted, match="inside of a character"):
        rest_of_constraint(CALL, b"<call>\xf0\x9f")


def test_text_behind_the_trigger_leaves_a_strict_grammar() -> None:
    rest = rest_of_constraint(CALL, b"Well, <call>ab")
    assert rest.fields.keys() == {"grammar"}
    assert accepts(rest.fields["grammar"], "c</call>")


def test_text_inside_the_trigger_may_go_on_or_not() -> None:
    fields = rest_of_constraint(CALL, b"Well, <ca").fields
    assert fields["grammar_lazy"]
    assert [trigger["value"] for trigger in fields["grammar_triggers"]] == ["(<call>)", "^(ll>)"]
    assert accepts(fields["grammar"], "ll>ab</call>")
    assert accepts(fields["grammar"], "<call>ab</call>")
    assert not accepts(fields["grammar"], "ab</call>")


def test_each_beginning_of_a_trigger_counts() -> None:
    fields = rest_of_constraint(Constraint('root ::= "aab" [0-9]', trigger="aab"), b"xaa").fields
    assert [trigger["value"] for trigger in fields["grammar_triggers"]] == ["(aab)", "^(ab)", "^(b)"]


def test_forced_grammar_holds_at_once() -> None:
    assert accepts(rest_of_constraint(CALL, b"Well, ", begins_now=True).fields["grammar"], "<call>a</call>")
    inside = rest_of_constraint(CALL, b"Well, <ca", begins_now=True).fields
    assert inside.keys() == {"grammar"}
    assert accepts(inside["grammar"], "ll>a</call>")


@pytest.mark.parametrize("data", [b"{", b"[1\xc3", b"[1]]"])
def test_answer_without_a_valid_rest_is_interrupted(data: bytes) -> None:
    with pytest.raises(Interrupted, match="the constrained answer cannot be continued"):
        rest_of_constraint(PLAIN, data)


def test_constraint_and_ignore_eos_exclude_each_other() -> None:
    capable = Capabilities(1, 512, Takeover.EXACT, honours=frozenset({"constraint", "ignore_eos"}))
    refusal = capable.refusal(GenerateRequest("r", "m", "hi", constraint=PLAIN, ignore_eos=True))
    assert refusal is not None
    assert "`ignore_eos`" in refusal.message
    assert capable.refusal(GenerateRequest("r", "m", "hi", constraint=PLAIN)) is None
