"""Refuses grammars that have to be followed in too many ways at once. Pure.

llama.cpp follows all ways at each token, and all other answers wait: `(a{1,100}){1,100}` needs 0.3 s for a token behind
40 characters, and more behind a longer text. An expression without recursion has at most as many ways as it has places
for a character, once its repetitions are written out. Only where these are too many, the machine follows a text along
which there are as many ways as possible. The check finds most ambiguous grammars, and not every one.
"""

from llmactors.grammar.characters import CharSet
from llmactors.grammar.errors import TooManyStacks
from llmactors.grammar.expressions import Choice, Expression, Grammar, Literal, Reference, Repetition, Sequence
from llmactors.grammar.limits import MAX_STACKS
from llmactors.grammar.machine import GrammarMachine, State, first_chars

_STEPS = 200
"""How many characters of the text are tried."""
_MOST_FOLLOWED = 2_500
"""How many ways there may be along the text, summed up over its characters: their number may also grow slowly."""
_TRIED = 12
"""How many characters are compared for each of them."""


def may_be_ambiguous(expression: Expression) -> bool:
    """Whether an expression without references has so many places that it may need too many ways."""
    return _places(expression) > MAX_STACKS


def check_ambiguity(grammar: Grammar, *, most_followed: float = _MOST_FOLLOWED) -> None:
    """Follows a text along which the grammar has many ways.

    Args:
        grammar: The grammar to look at.
        most_followed: How many ways there may be along the text, summed up over its characters.

    Raises:
        TooManyStacks: There are too many.
    """
    state = GrammarMachine(grammar).start
    followed = 0
    for step in range(_STEPS):
        if not state.may_continue:
            return
        followed += len(state.stacks)
        if followed > most_followed:
            raise TooManyStacks(f"the grammar is too ambiguous: {len(state.stacks)} ways after {step} characters")
        state = state.advance(_busiest(state))


def _busiest(state: State) -> str:
    """The character that most stacks of a state allow, among some of the allowed ones."""
    tried: dict[int, None] = {}
    for stack in state.stacks:
        for limits in first_chars(stack).ranges[:2]:
            tried |= dict.fromkeys(limits)
        if len(tried) >= _TRIED:
            break
    return max(map(chr, tried), key=lambda char: sum(char in first_chars(stack) for stack in state.stacks))


def _places(expression: Expression) -> int:
    match expression:
        case Literal(text):
            return len(text)
        case CharSet() | Reference():
            return 1
        case Sequence(items) | Choice(items):
            return sum(map(_places, items))
        case Repetition(item, least, most):
            return _places(item) * (most if most is not None else least + 1)
