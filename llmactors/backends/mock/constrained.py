"""The mock's answers under a constraint, as a function of request and seq. Pure.

A token is one to six characters that the grammar allows. An answer that has become long, or has few tokens left, takes
the shortest way to its end. Under a lazy constraint about half of the prompts come to the trigger after a few words,
and the other answers are free to their end.
"""

from llmactors.grammar.characters import CharSet
from llmactors.grammar.machine import State, machine_for
from llmactors.grammar.shortest import ShortestEnds
from llmactors.messages import Constraint

_LONG = 40
"""After how many tokens an answer takes the shortest way to its end."""
_SIZE = 6
"""The most characters of a token."""
_MOST_FREE = 4
"""The most words before the trigger."""
_USUAL = CharSet(((0x20, 0x7E),))


class ConstrainedText:
    """The text of one answer, token by token.

    Args:
        constraint: The constraint of the request.
        base: The hash of the sequence.

    Raises:
        GrammarError: The grammar cannot be served.
    """

    def __init__(self, constraint: Constraint, base: int) -> None:
        machine = machine_for(constraint.grammar)
        self._ends = ShortestEnds(machine)
        self._state: State = machine.start
        self._trigger = constraint.trigger
        self._free = 0
        """How many more words come before the trigger; -1: the answer never comes to the trigger."""
        if self._trigger:
            self._free = 1 + (base >> 1) % _MOST_FREE if base & 1 else -1
        self.ended = False
        """Whether the answer is complete."""

    def __repr__(self) -> str:
        return f"<ConstrainedText at {self._state}, {self._free} free words>"

    @property
    def is_free(self) -> bool:
        """Whether the constraint says nothing about the answer, which never comes to the trigger."""
        return self._free < 0

    def next(self, word: str, number: int, seq: int, left: int) -> str:
        """The text of the next token.

        Args:
            word: The text of the token in an answer without a constraint.
            number: What the choice of the characters follows.
            seq: The place of the token in the log.
            left: How many tokens the answer may have yet, this one included.
        """
        if self._free:
            self._free -= self._free > 0
            return word
        text = self._trigger_start(number)
        if self._trigger:
            return text
        hurries = seq > _LONG or self._ends.length(self._state) >= (left - 2) * _SIZE
        for _ in range(max(1, (_SIZE if hurries else 1 + number % _SIZE) - len(text))):
            number = (number * 0x5851F42D4C957F2D + 0x14057B7EF767814F) & ((1 << 64) - 1)
            if self._may_end(number, hurries=hurries):
                self.ended = True
                break
            char = self._char(number, hurries=hurries)
            self._state = self._state.advance(char)
            text += char
        self.ended = self.ended or not self._state.may_continue
        return text

    def _trigger_start(self, number: int) -> str:
        """A beginning of the trigger, where the answer has come to the trigger."""
        size = 1 + (number >> 8) % _SIZE
        text, self._trigger = self._trigger[:size], self._trigger[size:]
        self._state = self._state.advance(text)
        return text

    def _may_end(self, number: int, *, hurries: bool) -> bool:
        if not self._state.may_continue:
            return True
        return self._state.is_complete and (hurries or number >> 60 < 4)

    def _char(self, number: int, *, hurries: bool) -> str:
        chars = self._ends.towards(self._state) if hurries else self._state.allowed
        if number >> 56 & 7 and (usual := chars & _USUAL):
            chars = usual
        return chars.at((number >> 16) % chars.size)
