"""The stack machine: which texts follow a grammar, and what may come next. Pure.

A stack is what has to follow still, its top first. The machine follows all stacks that fit the text so far. A stack is
a linked list, whose tails other stacks share, and equal stacks are one object. So the machine compares stacks by
identity, and computes once what follows a state at a character. llama.cpp decides the same way which tokens it allows.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from llmactors.grammar.characters import CharSet
from llmactors.grammar.errors import TextRejected, TooManyStacks
from llmactors.grammar.expressions import (
    EMPTY,
    ROOT,
    Choice,
    Expression,
    Grammar,
    Literal,
    Reference,
    Repetition,
    Sequence,
)
from llmactors.grammar.gbnf import parse
from llmactors.grammar.limits import MAX_STACKS

_MAX_KEPT = 10_000
"""How many stacks and transitions a machine keeps, of about 220 bytes each. Then it forgets all of them, and computes
them again."""
_MACHINES = 32
"""How many machines are kept. All of them together take at most 70 MB."""
_SHOWN = 40
"""How many characters of a rejected text an error shows."""


class Stack:
    """An expression that has to follow, and the stack of what follows after that."""

    __slots__ = ("rest", "top")

    def __init__(self, top: Expression, rest: "Stack | None") -> None:
        self.top: Final = top
        self.rest: Final = rest

    def __repr__(self) -> str:
        return f"<Stack {self.top} …>"


class State:
    """Where the machine stands after a text. A state never changes."""

    __slots__ = ("_allowed", "_machine", "_next", "is_complete", "stacks")

    def __init__(self, machine: "GrammarMachine", stacks: tuple[Stack, ...], *, is_complete: bool) -> None:
        self._machine = machine
        self._next: dict[str, State | None] = {}
        self._allowed: CharSet | None = None
        self.stacks: Final = stacks
        """The stacks that need another character. The top of each is a `CharSet` or a `Literal`."""
        self.is_complete: Final = is_complete
        """Whether the text so far belongs to the grammar."""

    @property
    def may_continue(self) -> bool:
        """Whether a longer text may belong to the grammar."""
        return bool(self.stacks)

    @property
    def allowed(self) -> CharSet:
        """The characters that may come next."""
        if self._allowed is None:
            self._allowed = CharSet.of(limits for stack in self.stacks for limits in first_chars(stack).ranges)
        return self._allowed

    def advance(self, text: str) -> "State":
        """The state after `text` too.

        Raises:
            TextRejected: No text of the grammar goes on like that.
            TooManyStacks: The grammar is too ambiguous.
        """
        state = self
        for place, char in enumerate(text):
            try:
                following = state._next[char]
            except KeyError:
                following = state._next[char] = self._machine.step(state, char)
            if following is None:
                shown = text[max(0, place - _SHOWN) : place]
                raise TextRejected(f"the text does not follow the grammar: {char!r} is not allowed after {shown!r}")
            state = following
        return state

    def accepts(self, text: str) -> bool:
        """Whether some text of the grammar goes on with `text`. Raises `TooManyStacks`."""
        try:
            self.advance(text)
        except TextRejected:
            return False
        return True

    def __repr__(self) -> str:
        return f"<State {len(self.stacks)} stacks{', complete' * self.is_complete}>"


class GrammarMachine:
    """The states of one grammar. Many texts may use the same machine.

    Args:
        grammar: A grammar that `gbnf.parse` has read or `checks.check_rules` has seen.
        max_stacks: How many stacks a state may have.

    Raises:
        TooManyStacks: The grammar is too ambiguous from its start.
    """

    def __init__(self, grammar: Grammar, *, max_stacks: int = MAX_STACKS) -> None:
        self.grammar = grammar
        self._max_stacks = max_stacks
        self._stacks: dict[tuple[Expression, Stack | None], Stack] = {}
        self._expanded: dict[Stack, tuple[Stack | None, ...]] = {}
        self._states: dict[frozenset[Stack | None], State] = {}
        self._tails: dict[tuple[Expression, ...], Expression] = {}
        self.start: Final = self._state(self._expand(self._push(grammar.rules[ROOT], None)))

    def step(self, state: State, char: str) -> State | None:
        """The state after one more character; None where the character is not allowed. Raises `TooManyStacks`."""
        if len(self._states) + len(self._stacks) > _MAX_KEPT:
            self._forget()
        found: dict[Stack | None, None] = {}
        for stack in state.stacks:
            if char in first_chars(stack):
                for expanded in self._expand(self._after_char(stack)):
                    found[expanded] = None
        return self._state(found) if found else None

    def either(self, states: Iterable[State]) -> State:
        """The state in which the machine stands in one of `states`, without knowing which. Raises `TooManyStacks`."""
        found: dict[Stack | None, None] = {}
        for state in states:
            found |= dict.fromkeys(state.stacks)
            if state.is_complete:
                found[None] = None
        return self._state(found)

    def __repr__(self) -> str:
        return f"<GrammarMachine of {len(self.grammar.rules)} rules, {len(self._states)} states so far>"

    def _forget(self) -> None:
        for state in self._states.values():
            state._next.clear()  # noqa: SLF001 - a state and its machine are one thing
        self._states.clear()
        self._stacks.clear()
        self._expanded.clear()

    def _state(self, found: "dict[Stack | None, None] | tuple[Stack | None, ...]") -> State:
        key = frozenset(found)
        if len(key) > self._max_stacks:
            raise TooManyStacks(f"the grammar is too ambiguous: it has to be followed in {len(key)} ways at once")
        state = self._states.get(key)
        if state is None:
            stacks = tuple(stack for stack in found if stack is not None)
            state = self._states[key] = State(self, stacks, is_complete=None in key)
        return state

    def _push(self, top: Expression, rest: Stack | None) -> Stack | None:
        if top == EMPTY:
            return rest
        key = (top, rest)
        stack = self._stacks.get(key)
        if stack is None:
            stack = self._stacks[key] = Stack(top, rest)
        return stack

    def _after_char(self, stack: Stack) -> Stack | None:
        """The stack after its first character."""
        if isinstance(stack.top, Literal) and len(stack.top.text) > 1:
            return self._push(Literal(stack.top.text[1:]), stack.rest)
        return stack.rest

    def _expand(self, start: Stack | None) -> tuple[Stack | None, ...]:
        """The stacks that a stack stands for: each begins with a character, or is None, the end."""
        if start is None:
            return (None,)
        known = self._expanded.get(start)
        if known is not None:
            return known
        found: dict[Stack | None, None] = {}
        seen: set[Stack | None] = set()
        todo: list[Stack | None] = [start]
        while todo:
            stack = todo.pop()
            if stack in seen:
                continue
            seen.add(stack)
            if stack is None or isinstance(stack.top, CharSet | Literal):
                found[stack] = None
                if len(found) > self._max_stacks:
                    raise TooManyStacks("the grammar is too ambiguous: too many ways begin at one place")
            else:
                todo += reversed(list(self._open(stack.top, stack.rest)))
        result = self._expanded[start] = tuple(found)
        return result

    def _open(self, top: Expression, rest: Stack | None) -> Iterator[Stack | None]:
        """The stacks that a stack stands for whose `top` has expressions inside."""
        match top:
            case Reference(name):
                yield self._push(self.grammar.rules[name], rest)
            case Sequence(items):
                yield self._push(items[0], self._push(self._tail(items), rest))
            case Choice(options):
                for option in options:
                    yield self._push(option, rest)
            case Repetition(item, least, most):
                if most != 0:
                    yield self._push(item, self._push(_one_fewer(item, least, most), rest))
                if not least:
                    yield rest
            case CharSet() | Literal():
                yield self._push(top, rest)

    def _tail(self, items: tuple[Expression, ...]) -> Expression:
        tail = self._tails.get(items)
        if tail is None:
            tail = self._tails[items] = items[1] if len(items) == 2 else Sequence(items[1:])
        return tail


def _one_fewer(item: Expression, least: int, most: int | None) -> Expression:
    """What is left of a repetition after one item."""
    return EMPTY if most == 1 else Repetition(item, max(0, least - 1), None if most is None else most - 1)


def first_chars(stack: Stack) -> CharSet:
    """The characters that a stack allows next. Its top is a `CharSet` or a `Literal`."""
    if isinstance(stack.top, CharSet):
        return stack.top
    assert isinstance(stack.top, Literal)  # noqa: S101 - `_expand` leaves no others; for mypy
    code = ord(stack.top.text[0])
    return CharSet(((code, code),))


@lru_cache(maxsize=_MACHINES)
def machine_for(gbnf: str) -> GrammarMachine:
    """The machine for the text of a grammar. The machines of the last few grammars are kept.

    Raises:
        GrammarError: The text is no grammar that can be served.
    """
    return GrammarMachine(parse(gbnf))
