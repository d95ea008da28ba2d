"""Reads the beginning of a call that is a JSON object: its name, up to its arguments. Pure.

The text of an answer comes in parts, so each reading begins anew until the text is long enough. The beginning of a call
is short, and its length is bounded.
"""

import re

import attrs
import msgspec

from llmactors.tool_calls.json_value import JsonValue

MAX_HEAD = 2_048
"""How many characters a call may have before its arguments begin. Longer texts are no calls."""
_ARGUMENTS = frozenset({"arguments", "parameters"})
_IGNORED = frozenset({"type", "id"})
_SCALAR = re.compile(r"[^\s,\]}]+(?=[\s,\]}])")


class Incomplete(Exception):
    """More text decides whether this is a call."""


class NoCall(Exception):
    """The text is not the beginning of a call."""


@attrs.frozen
class CallHead:
    """The beginning of a call."""

    name: str
    end: int
    """Where the arguments begin; or, if `arguments` is not None, where the text of the call goes on after them."""
    arguments: str | None = None
    """The arguments, if they are complete."""
    is_closed: bool = False
    """Whether `end` is the end of the call's object."""


def read_head(text: str, start: int) -> CallHead:
    """The beginning of a call, whose object begins at `start` after white space. Raises `Incomplete` or `NoCall`."""
    try:
        head = _read(_Cursor(text, start))
    except Incomplete:
        if len(text) - start > MAX_HEAD:
            raise NoCall from None
        raise
    if head.end - start > MAX_HEAD:
        raise NoCall
    return head


def _read(cursor: "_Cursor") -> CallHead:
    name: str | None = None
    arguments: str | None = None
    cursor.expect("{")
    while True:
        key = cursor.string()
        cursor.expect(":")
        if key == "name":
            name = cursor.string()
        elif key in _ARGUMENTS:
            if name is not None and arguments is None and cursor.peek() == "{":
                return CallHead(name, cursor.at)
            arguments = _as_arguments(cursor.value())
        elif key in _IGNORED:
            cursor.value()
        else:
            raise NoCall
        if cursor.peek() == "}":
            cursor.expect("}")
            if not name:
                raise NoCall
            return CallHead(name, cursor.at, "{}" if arguments is None else arguments, is_closed=True)
        cursor.expect(",")


def _as_arguments(value: str) -> str:
    """A value in the place of the arguments. Some models write the object into a string, or null for no arguments."""
    if value == "null":
        return "{}"
    if value.startswith('"'):
        return _decoded(value)
    return value


def _decoded(text: str) -> str:
    try:
        return msgspec.json.decode(text, type=str)
    except msgspec.DecodeError:
        raise NoCall from None


@attrs.define
class _Cursor:
    """A place in a text that is not complete yet. Each method skips white space first."""

    text: str
    at: int

    def peek(self) -> str:
        """The next character."""
        while self.at < len(self.text):
            if not self.text[self.at].isspace():
                return self.text[self.at]
            self.at += 1
        raise Incomplete

    def expect(self, char: str) -> None:
        if self.peek() != char:
            raise NoCall
        self.at += 1

    def string(self) -> str:
        if self.peek() != '"':
            raise NoCall
        return _decoded(self.value())

    def value(self) -> str:
        """The text of any value."""
        if self.peek() in '{["':
            end = JsonValue().end(self.text, self.at)
        else:
            found = _SCALAR.match(self.text, self.at)
            end = found and found.end()
        if end is None:
            raise Incomplete
        start, self.at = self.at, end
        return self.text[start:end]
