"""Random texts of a grammar."""

import random

from llmactors.grammar.characters import CharSet
from llmactors.grammar.machine import GrammarMachine
from llmactors.grammar.shortest import ShortestEnds

_ASCII = CharSet(((0x20, 0x7E),))


def random_text(machine: GrammarMachine, rng: random.Random, *, soft_limit: int = 60, prefix: str = "") -> str:
    """A text of the grammar that begins with `prefix`. Takes the shortest end from `soft_limit` characters on."""
    ends, state, text = ShortestEnds(machine), machine.start.advance(prefix), prefix
    while not (state.is_complete and (not state.may_continue or len(text) > soft_limit or rng.random() < 0.2)):
        chars = state.allowed if len(text) < soft_limit else ends.towards(state)
        if rng.random() < 0.9 and chars & _ASCII:
            chars &= _ASCII
        char = chars.at(rng.randrange(chars.size))
        state, text = state.advance(char), text + char
    return text
