"""Regular expressions as grammar: the part of ECMA-262 that is regular. Pure.

Lookarounds and backreferences are refused by name. Word and digit classes are ASCII, as ECMA-262 says. A pattern
without `^` may begin anywhere in the string, and one without `$` may end anywhere, as JSON Schema says.
"""

import re
from collections.abc import Callable
from typing import NoReturn

from llmactors.grammar.characters import CharSet
from llmactors.grammar.expressions import (
    EMPTY,
    Choice,
    Expression,
    Literal,
    Repetition,
    Sequence,
    choice,
    sequence,
)
from llmactors.grammar.json_schema.json_text import CHARACTERS, encoded, json_chars
from llmactors.grammar.limits import MAX_REPETITIONS

_MAX_GROUPS = 15
"""How deep groups may be nested."""
_COUNTS = re.compile(r"\{([0-9]{1,6})(?:(,)([0-9]{1,6})?)?\}")
_SIMPLE_COUNTS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_GROUP = re.compile(r"\(\?(?::|P?<[A-Za-z_][A-Za-z0-9_]*>)")
_DIGITS = CharSet.of([(0x30, 0x39)])
_WORD = CharSet.of([(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)])
_SPACES = CharSet.chars("\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000") | CharSet.of([(0x2000, 0x200A)])
_RARE_SPACES = CharSet.chars("\ufeff\x1c\x1d\x1e\x1f\x85")
"""Characters that are white space in some languages only. Neither `\\s` nor `\\S` stands for them."""
_CLASSES = {
    "d": _DIGITS,
    "w": _WORD,
    "s": _SPACES,
    "D": CHARACTERS - _DIGITS,
    "W": CHARACTERS - _WORD,
    "S": CHARACTERS - _SPACES - _RARE_SPACES,
}
_DOT = CHARACTERS - CharSet.chars("\n\r\u2028\u2029")
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_HEX = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}")
_PLAIN = set("^$\\.*+?()[]{}|/-\"'`~!@#%&=:;,<> _")
"""The characters that may stand behind a backslash for themselves."""


class PatternError(Exception):
    """A regular expression cannot be served. The text says why."""


def parse_pattern(pattern: str) -> Expression:
    """The strings that match `pattern`, as an expression over their characters.

    Raises:
        PatternError: The pattern is not regular, or is wrong.
    """
    return _Reader(pattern).read()


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def read(self) -> Expression:
        options = [self._anchored()]
        while self._takes("|"):
            options.append(self._anchored())
        if self._at < len(self._pattern):
            self._fail("a `)` without its `(`")
        return choice(options)

    def _anchored(self) -> Expression:
        begins = self._takes("^")
        inside = self._sequence(depth=0)
        ends = self._takes("$")
        if self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            self._fail("`$` is served at the end of the pattern only")
        anything = Repetition(CHARACTERS, 0, None)
        return sequence(*([] if begins else [anything]), inside, *([] if ends else [anything]))

    def _alternatives(self, depth: int) -> Expression:
        if depth > _MAX_GROUPS:
            self._fail(f"groups are nested more than {_MAX_GROUPS} deep")
        options = [self._sequence(depth)]
        while self._takes("|"):
            options.append(self._sequence(depth))
        return choice(options)

    def _sequence(self, depth: int) -> Expression:
        items: list[Expression] = []
        while self._at < len(self._pattern) and (char := self._pattern[self._at]) not in "|)":
            if char == "$":
                if depth:
                    self._fail("`$` inside of a group cannot be served")
                break
            items.append(self._quantified(self._item(char, depth)))
        return sequence(*items)

    def _item(self, char: str, depth: int) -> Expression:
        self._at += 1
        if char == "(":
            return self._group(depth)
        if char == "[":
            return self._class()
        if char == ".":
            return _DOT
        if char == "\\":
            return _as_expression(self._escape(in_class=False))
        if char == "^":
            self._fail("`^` is served at the beginning of the pattern only")
        if char in "*+?":
            self._fail(f"nothing to repeat before `{char}`")
        return Literal(char)

    def _group(self, depth: int) -> Expression:
        if self._pattern.startswith("?", self._at):
            start = self._at - 1
            rest = self._pattern[self._at : self._at + 3]
            if rest.startswith(("?=", "?!", "?<=", "?<!")):
                self._fail(f"the lookaround `({rest}` cannot be served")
            found = _GROUP.match(self._pattern, start)
            if found is None:
                self._fail(f"the group `({rest}` cannot be served")
            self._at = found.end()
        inside = self._alternatives(depth + 1)
        if not self._takes(")"):
            self._fail("a `(` without its `)`")
        return inside

    def _quantified(self, item: Expression) -> Expression:
        char = self._pattern[self._at : self._at + 1]
        if char in _SIMPLE_COUNTS:
            self._at += 1
            least, most = _SIMPLE_COUNTS[char]
        elif found := _COUNTS.match(self._pattern, self._at):
            self._at = found.end()
            least = int(found[1])
            most = least if found[2] is None else int(found[3]) if found[3] is not None else None
            if most is not None and most < least:
                self._fail(f"the quantifier `{found[0]}` has a maximum below its minimum")
            if max(least, most or 0) > MAX_REPETITIONS:
                self._fail(f"the quantifier `{found[0]}` is above {MAX_REPETITIONS}")
        else:
            return item
        self._takes("?")  # a lazy quantifier allows the same strings
        if self._pattern[self._at : self._at + 1] in {"*", "+", "?"}:
            self._fail("two quantifiers one after the other cannot be served")
        if item == EMPTY or most == 0:
            return EMPTY
        if most is None and length_limits(item)[0] == 0:
            self._fail("a part that may be empty is repeated without a limit, which cannot be served")
        return Repetition(item, least, most)

    def _class(self) -> Expression:
        negated = self._takes("^")
        inside = CharSet(())
        while not self._takes("]"):
            first = self._class_part()
            if self._pattern.startswith("-", self._at) and not self._pattern.startswith("-]", self._at):
                self._at += 1
                last = self._class_part()
                if first.size != 1 or last.size != 1 or last.at(0) < first.at(0):
                    self._fail("a range in a character class is in the wrong order, or between classes")
                inside |= CharSet.of([(ord(first.at(0)), ord(last.at(0)))])
            else:
                inside |= first
        found = (CHARACTERS - inside) if negated else inside & CHARACTERS
        if not found:
            self._fail("a character class without characters")
        return found

    def _class_part(self) -> CharSet:
        if self._at >= len(self._pattern):
            self._fail("a `[` without its `]`")
        char = self._pattern[self._at]
        self._at += 1
        if char != "\\":
            return CharSet.chars(char)
        if self._takes("b"):
            return CharSet.chars("\b")
        return self._escape(in_class=True)

    def _escape(self, *, in_class: bool) -> CharSet:
        char = self._pattern[self._at : self._at + 1]
        if found := _HEX.match(self._pattern, self._at):
            self._at = found.end()
            code = int(found[1] or found[2] or found[3], 16)
            return CharSet.of([(code, code)]) & CHARACTERS
        self._at += 1
        if char in _CLASSES:
            return _CLASSES[char]
        if char in _CONTROLS:
            return CharSet.chars(_CONTROLS[char])
        if char and char in _PLAIN:
            return CharSet.chars(char)
        if char.isdigit() or char == "k":
            self._fail(f"the backreference `\\{char}` cannot be served")
        if char in {"b", "B"} and not in_class:
            self._fail(f"the word boundary `\\{char}` cannot be served")
        return self._fail(f"the escape `\\{char}` cannot be served")

    def _takes(self, char: str) -> bool:
        taken = self._pattern.startswith(char, self._at)
        self._at += taken
        return taken

    def _fail(self, reason: str) -> NoReturn:
        raise PatternError(reason)


def _as_expression(chars: CharSet) -> Expression:
    return Literal(chars.at(0)) if chars.size == 1 else chars


def length_limits(expression: Expression) -> tuple[int, int | None]:
    """The shortest and the longest length of a string that follows an expression without references; None: no limit."""
    match expression:
        case Literal(text):
            return len(text), len(text)
        case Sequence(items):
            limits = [length_limits(item) for item in items]
            highs = [high for _, high in limits if high is not None]
            return sum(low for low, _ in limits), sum(highs) if len(highs) == len(limits) else None
        case Choice(options):
            limits = [length_limits(option) for option in options]
            highs = [high for _, high in limits if high is not None]
            return min(low for low, _ in limits), max(highs) if len(highs) == len(limits) else None
        case Repetition(item, least, most):
            low, high = length_limits(item)
            return low * least, None if high is None or most is None else high * most
        case _:
            return 1, 1


def in_json(expression: Expression, keep: Callable[[Expression], Expression] = lambda made: made) -> Expression:
    """The same strings as they stand inside of the quotes of a JSON string.

    Args:
        expression: An expression over the characters of strings, without references.
        keep: What makes a rule of an expression that is repeated, so that the grammar stays small.
    """
    match expression:
        case Literal(text):
            return Literal(encoded(text))
        case CharSet():
            return keep(choice(json_chars(expression)))
        case Sequence(items):
            return sequence(*(in_json(item, keep) for item in items))
        case Choice(options):
            return choice(in_json(option, keep) for option in options)
        case Repetition(item, least, most):
            return Repetition(keep(in_json(item, keep)), least, most)
        case _:
            return expression
