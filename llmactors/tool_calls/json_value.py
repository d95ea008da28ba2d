"""Finds the end of a JSON value that comes in parts. Pure.

The value is not checked: brackets are counted, and strings are skipped.
"""


class JsonValue:
    """The scan of one object, array or string. With `depth`, the scan begins inside of so many brackets."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._in_string = False
        self._is_escaped = False

    def __repr__(self) -> str:
        return f"<JsonValue {self._depth} deep{', in a string' * self._in_string}>"

    def end(self, text: str, start: int = 0) -> int | None:
        """Takes the next part of the text from `start` on. Returns where the value ends; None if it goes on."""
        for at in range(start, len(text)):
            self._take(text[at])
            if self._depth <= 0 and not self._in_string:
                return at + 1
        return None

    def _take(self, char: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif self._in_string:
            self._is_escaped = char == "\\"
            self._in_string = char != '"'
        elif char == '"':
            self._in_string = True
        elif char in "{[":
            self._depth += 1
        elif char in "}]":
            self._depth -= 1
