"""Keeps the words of a message words, also where they spell a token that controls the model, as `<|im_end|>`. Pure.

llama.cpp reads a conversation from one text, in which a control token of the chat template and the same characters
typed by a user look alike: whoever types the end of his turn could go on as the system. So such characters are taken
out before the template is applied, and put back, as text, between the tokens of what is around them. Nothing changes
for messages that have none.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

_OPEN, _CLOSE = "\ue000", "\ue001"
"""Private characters of Unicode, between which stands a mark."""


@attrs.frozen
class Sheltered:
    """Messages with marks in place of what looks like a control token."""

    contents: tuple[str, ...]
    quoted: tuple[str, ...]
    """What the marks stand for, by their numbers."""
    _mark: re.Pattern[str]

    def cut(self, rendered: str) -> list[tuple[str, bool]]:
        """The text that a template made of them, in parts: each with True where control tokens in it are meant."""
        parts: list[tuple[str, bool]] = []
        for place, piece in enumerate(self._mark.split(rendered)):
            text = self.quoted[int(piece)] if place % 2 else piece
            if text:
                parts.append((text, place % 2 == 0))
        return parts


class Quoting:
    """Knows the control tokens of one model, by their texts."""

    def __init__(self, controls: Iterable[str]) -> None:
        trie = _trie(controls)
        self._controls = re.compile(_expression(trie)) if trie else None

    def __repr__(self) -> str:
        return "<Quoting of nothing>" if self._controls is None else "<Quoting>"

    def shelter(self, contents: Sequence[str]) -> Sheltered | None:
        """None where there is nothing to shelter."""
        controls = self._controls
        if controls is None or not any(map(controls.search, contents)):
            return None
        name = "q"
        while any(f"{_OPEN}{name}" in content for content in contents):
            name += "q"
        quoted: list[str] = []

        def mark(found: re.Match[str]) -> str:
            quoted.append(found[0])
            return f"{_OPEN}{name}{len(quoted) - 1}{_CLOSE}"

        marked = tuple(controls.sub(mark, content) for content in contents)
        return Sheltered(marked, tuple(quoted), re.compile(f"{_OPEN}{name}([0-9]+){_CLOSE}"))


def _trie(words: Iterable[str]) -> dict[str, Any]:
    trie: dict[str, Any] = {}
    for word in filter(None, words):
        node = trie
        for letter in word:
            node = node.setdefault(letter, {})
        node[""] = {}
    return trie


def _expression(node: dict[str, Any]) -> str:
    """Of a trie, which takes as long as the text is, however many words there are. The longest word wins."""
    branches = [re.escape(letter) + _expression(below) for letter, below in node.items() if letter]
    if not branches:
        return ""
    body = f"(?:{'|'.join(branches)})"
    return f"{body}?" if "" in node else body
