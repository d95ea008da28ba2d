"""Reads and writes GBNF, the text of a grammar for llama.cpp. Pure.

https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md describes the language. Elements that stand for
tokens of one model are not supported. What llama.cpp refuses, takes for something else or hangs on is refused here.
What is written here means the same to XGrammar, which vLLM and SGLang use: https://xgrammar.mlc.ai/docs/ describes its
EBNF.
"""

import re
from typing import NoReturn

from llmactors.grammar.characters import ANY, LAST, CharSet, Range
from llmactors.grammar.checks import check_rules
from llmactors.grammar.errors import GrammarError
from llmactors.grammar.expressions import (
    EMPTY,
    Choice,
    Expression,
    Grammar,
    Literal,
    Reference,
    Repetition,
    Sequence,
    choice,
    literal,
    sequence,
)
from llmactors.grammar.limits import MAX_NESTING, MAX_REPETITIONS, MAX_RULES, MAX_SYMBOLS, MAX_TEXT

_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME = re.compile(r"[A-Za-z0-9-]+")
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_CLASS = re.compile(r"\[(\^?)((?:[^\]\\]|\\.)*)\]", re.DOTALL)
_COUNTS = re.compile(r"\{\s*([0-9]{1,9})\s*(?:(,)\s*([0-9]{1,9})?\s*)?\}")
_ESCAPE = re.compile(r'\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([tnr"\\\[\]-])|(.?))', re.DOTALL)
_CHAR = re.compile(rf"{_ESCAPE.pattern}|.", re.DOTALL)
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r"}
_SIMPLE_COUNTS = {"*": (0, None), "+": (1, None), "?": (0, 1)}


def parse(text: str) -> Grammar:
    """The grammar that `text` describes.

    Raises:
        GrammarError: The text is no GBNF, it is too large, a rule is missing or left-recursive, or no text can ever
            follow a rule to its end.
    """
    if len(text) > MAX_TEXT:
        raise GrammarError(f"the grammar has {len(text)} characters; at most {MAX_TEXT} are allowed")
    if "\0" in text:
        raise GrammarError("the grammar holds a null character; write it as \\x00")
    grammar = Grammar(_Reader(text).read())
    check_rules(grammar)
    return grammar


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._symbols = 0

    def read(self) -> dict[str, Expression]:
        rules: dict[str, Expression] = {}
        self._skip(lines=True)
        while self._at < len(self._text):
            name = self._name()
            if name in rules:
                self._fail(f"the rule `{name}` is defined twice")
            if len(rules) >= MAX_RULES:
                raise GrammarError(f"the grammar has more than {MAX_RULES} rules")
            self._skip(lines=False)
            if not self._text.startswith("::=", self._at):
                self._fail("expected `::=`")
            self._at += 3
            self._skip(lines=True)
            rules[name] = self._alternatives(depth=0)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                self._fail("expected the end of the line")
            self._skip(lines=True)
        return rules

    def _alternatives(self, depth: int) -> Expression:
        if depth > MAX_NESTING:
            raise GrammarError(f"the groups of the grammar are nested more than {MAX_NESTING} deep")
        options = [self._sequence(depth)]
        while self._text.startswith("|", self._at):
            self._at += 1
            self._skip(lines=True)
            options.append(self._sequence(depth))
        return choice(options)

    def _sequence(self, depth: int) -> Expression:
        items: list[Expression] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in "*+?{":
                if not items or items[-1] == EMPTY:
                    self._fail(f"nothing to repeat before `{char}`")
                items[-1] = self._repetition(items[-1])
            elif (item := self._item(char, depth)) is not None:
                items.append(item)
                self._symbols += 1
                if self._symbols > MAX_SYMBOLS:
                    raise GrammarError(f"the grammar has more than {MAX_SYMBOLS} symbols")
            else:
                break
            self._skip(lines=depth > 0)
        return sequence(*items)

    def _item(self, char: str, depth: int) -> Expression | None:
        if char == '"':
            text = self._match(_LITERAL, "a literal without its closing quote")[1]
            return literal(_ESCAPE.sub(self._unescape, text) if "\\" in text else text)
        if char == "[":
            return self._class()
        if char == ".":
            self._at += 1
            return ANY
        if char == "(":
            self._at += 1
            self._skip(lines=True)
            inner = self._alternatives(depth + 1)
            if not self._text.startswith(")", self._at):
                self._fail("expected `)`")
            self._at += 1
            return inner
        if char in "<!":
            self._fail("an element for a token, such as `<think>` or `<[1000]>`, is not supported; write the text")
        return Reference(self._name()) if _NAME.match(char) else None

    def _class(self) -> CharSet:
        found = self._match(_CLASS, "a character class without its closing bracket")
        pieces = list(_CHAR.finditer(found[2]))
        chars, ranges, place = [piece[0] if len(piece[0]) == 1 else self._unescape(piece) for piece in pieces], [], 0
        while place < len(chars):
            first = last = ord(chars[place])
            place += 1
            if place + 1 < len(chars) and pieces[place][0] == "-":
                last = ord(chars[place + 1])
                place += 2
            if last < first:
                self._fail(f"the range {chr(first)!r} to {chr(last)!r} is in the wrong order")
            ranges.append((first, last))
        if not ranges:
            self._fail("an empty character class")
        inside = CharSet.of(ranges)
        return ~inside if found[1] else inside

    def _repetition(self, item: Expression) -> Repetition:
        char = self._text[self._at]
        if char != "{":
            self._at += 1
            return Repetition(item, *_SIMPLE_COUNTS[char])
        found = self._match(_COUNTS, "expected counts such as `{2}`, `{2,}` or `{2,5}`")
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] is not None else None
        if most is not None and most < least:
            self._fail(f"the repetition {found[0]} has a maximum below its minimum")
        if max(least, most or 0) > MAX_REPETITIONS:
            self._fail(f"the repetition {found[0]} is above {MAX_REPETITIONS}")
        return Repetition(item, least, most)

    def _unescape(self, found: "re.Match[str]") -> str:
        byte, short, wide, simple, unknown = found.groups()
        if simple is not None:
            return _CONTROLS.get(simple, simple)
        if unknown is not None:
            self._fail(f"unknown escape `\\{unknown}`")
        code = int(byte or short or wide, 16)
        if code > LAST:
            self._fail(f"there is no character {code:#x}")
        return chr(code)

    def _name(self) -> str:
        return self._match(_NAME, "expected a name of a rule: letters, digits and `-`")[0]

    def _match(self, pattern: "re.Pattern[str]", problem: str) -> "re.Match[str]":
        found = pattern.match(self._text, self._at)
        if found is None:
            self._fail(problem)
        self._at = found.end()
        return found

    def _skip(self, *, lines: bool) -> None:
        found = (_SPACE_AND_LINES if lines else _SPACE).match(self._text, self._at)
        if found is not None:
            self._at = found.end()

    def _fail(self, problem: str) -> NoReturn:
        line = self._text.count("\n", 0, self._at) + 1
        raise GrammarError(f"the grammar's line {line}: {problem}, near {self._text[self._at : self._at + 30]!r}")


def write(grammar: Grammar) -> str:
    """The text of `grammar`, with the rule `root` first."""
    ordered = {"root": grammar.rules["root"], **grammar.rules}
    return "".join(f"{name} ::= {write_expression(rule)}\n" for name, rule in ordered.items())


def write_expression(expression: Expression) -> str:
    """The text of one expression."""
    match expression:
        case Literal(text):
            return '"' + "".join(map(_quoted, text)) + '"'
        case CharSet(ranges):
            return "." if expression == ANY else _class(ranges)
        case Reference(name):
            return name
        case Sequence(items):
            return " ".join(map(_grouped, items)) or '""'
        case Choice(options):
            return " | ".join(write_expression(option) for option in options)
        case Repetition(item, least, most):
            return _repeated(item) + _counts(least, most)


def _grouped(item: Expression) -> str:
    return f"({write_expression(item)})" if isinstance(item, Choice) else write_expression(item)


def _repeated(item: Expression) -> str:
    plain = isinstance(item, CharSet | Reference | Literal)
    return write_expression(item) if plain else f"({write_expression(item)})"


def _counts(least: int, most: int | None) -> str:
    for sign, counts in _SIMPLE_COUNTS.items():
        if counts == (least, most):
            return sign
    return f"{{{least}}}" if least == most else f"{{{least},{'' if most is None else most}}}"


def _class(ranges: tuple[Range, ...]) -> str:
    first, last = ranges[0] if ranges else (0, 0)
    if first == ord("^") and (last, len(ranges)) != (first, 1):
        # XGrammar would take the character, even when it is escaped, for the sign of a negated class.
        rest = ((first + 1, last),) if last > first else ()
        ranges = (*rest, *ranges[1:], (first, first))
    return "[" + "".join(map(_range, ranges)) + "]"


def _range(limits: Range) -> str:
    first, last = limits
    return _escaped(chr(first)) + ("" if first == last else "-" + _escaped(chr(last)))


def _quoted(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if " " <= char <= "~" else _escaped(char)


def _escaped(char: str) -> str:
    code = ord(char)
    if char in "\\[]-":
        return "\\" + char  # XGrammar takes `\x2D` for the sign of a range, and the end of `\x5Cb` for an escape
    if " " <= char <= "~" and char not in '"^':
        return char
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
