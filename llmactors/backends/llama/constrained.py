"""What llama.cpp is told about the constraint of an answer: at its beginning, and behind tokens that are logged. Pure.

llama.cpp begins each grammar at its root. Behind logged tokens it gets the residual grammar: what the grammar leaves to
follow after the text so far. A lazy grammar begins with its trigger. Before the trigger the answer is free, so the same
lazy grammar is sent again. Where the text ends inside of the trigger, the rest of the trigger counts as the trigger too
if it comes at once.
"""

import codecs
import re
from typing import Any

import attrs

from llmactors.errors import Interrupted
from llmactors.grammar.errors import GrammarError, TextRejected
from llmactors.grammar.gbnf import parse, write
from llmactors.grammar.machine import GrammarMachine, State
from llmactors.grammar.residual import residual_grammar
from llmactors.messages import Constraint

_PATTERN_TRIGGER = 2
"""llama.cpp's number for a trigger that is a regular expression."""
_SPECIAL = re.compile(r"[.^$|()\[\]{}*+?\\]")
_OVERSHOT = "Unexpected empty grammar stack"
"""What llama.cpp says of a token that ends the trigger, and goes on with a text that the grammar does not allow."""


@attrs.frozen
class ConstraintRest:
    """What a constraint leaves to follow after a text."""

    fields: dict[str, Any]
    """The fields of a completion's body."""
    is_complete: bool = False
    """Whether nothing may follow: only the end of the answer is missing."""


def whole_constraint(constraint: Constraint) -> dict[str, Any]:
    """The fields of the body for an answer from its beginning."""
    if not constraint.trigger:
        return {"grammar": constraint.grammar}
    return _lazy(constraint.grammar, [_quoted(constraint.trigger)])


def rest_of_constraint(constraint: Constraint, data: bytes, *, begins_now: bool = False) -> ConstraintRest:
    """What `constraint` leaves to follow after the bytes of an answer.

    Args:
        constraint: The constraint of the whole answer.
        data: The bytes of the tokens so far.
        begins_now: Whether the grammar holds from here on, or from the part of the trigger that the text ends with,
            even if the text does not contain the trigger yet.

    Raises:
        Interrupted: The text does not follow the constraint, it ends inside of a character, or the grammar is too
            ambiguous. So no continuation can be valid.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    try:
        return _rest(constraint, text, is_cut=bool(decoder.getstate()[0]), begins_now=begins_now)
    except GrammarError as error:
        raise Interrupted(f"the constrained answer cannot be continued: {error.message}") from error


def overshot_trigger(reason: str) -> bool:
    """Whether llama.cpp gave a request up because a token went beyond the trigger in a way that is not allowed."""
    return _OVERSHOT in reason


def _rest(constraint: Constraint, text: str, *, is_cut: bool, begins_now: bool) -> ConstraintRest:
    """`is_cut`: whether the tokens end inside of the character behind `text`, which only free text may do."""
    trigger = constraint.trigger
    at, parts = text.find(trigger), _parts(text, trigger)
    if at < 0 and not parts and not begins_now:
        return ConstraintRest(whole_constraint(constraint))
    if is_cut:
        raise TextRejected("its tokens end inside of a character")
    machine = GrammarMachine(parse(constraint.grammar))
    if at >= 0:
        return _after(machine, machine.start.advance(text[at:]))
    if begins_now:
        return _after(machine, machine.start.advance(trigger[: max(parts, default=0)]))
    states = [machine.start, *(machine.start.advance(trigger[:size]) for size in parts)]
    grammar = write(residual_grammar(machine.grammar, machine.either(states)))
    return ConstraintRest(_lazy(grammar, [_quoted(trigger), *(f"^{_quoted(trigger[size:])}" for size in parts)]))


def _after(machine: GrammarMachine, state: State) -> ConstraintRest:
    grammar = write(residual_grammar(machine.grammar, state))
    return ConstraintRest({"grammar": grammar}, is_complete=not state.may_continue)


def _parts(text: str, trigger: str) -> list[int]:
    """The lengths of the beginnings of the trigger that the text ends with."""
    return [size for size in range(1, len(trigger)) if text.endswith(trigger[:size])]


def _lazy(grammar: str, patterns: list[str]) -> dict[str, Any]:
    triggers = [{"type": _PATTERN_TRIGGER, "value": pattern} for pattern in patterns]
    return {"grammar": grammar, "grammar_lazy": True, "grammar_triggers": triggers}


def _quoted(text: str) -> str:
    """A regular expression of C++ for the text; its group says where the grammar begins."""
    return f"({_SPECIAL.sub(lambda found: chr(92) + found[0], text)})"
