"""Keeps the names of control tokens in a message, such as `<|im_end|>`, from controlling the model. Pure.

llama.cpp reads a conversation from one text, in which a control token of the chat template and the same characters
typed by a user look alike: a user who types the end of a turn could go on as the system. So such characters are
replaced by marks before the template is applied. Afterwards the text is tokenized in parts, and the characters take the
place of the marks as plain text. Nothing changes for messages without such characters.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

_OPEN, _CLOSE = "\ue000", "\ue001"
"""Private characters of Unicode that enclose a mark."""


@attrs.frozen
class Sheltered:
    """Messages with marks in place of what looks like a control token."""

    contents: tuple[str, ...]
    quoted: tuple[str, ...]
    """The text that each mark stands for, by the mark's number."""
    _mark: re.Pattern[str]

    def cut(self, rendered: str) -> list[tuple[str, bool]]:
        """Cuts a template's text at the marks. True stands beside each part whose control tokens control the model."""
        parts: list[tuple[str, bool]] = []
        for place, piece in enumerate(self._mark.split(rendered)):
            text = self.quoted[int(piece)] if place % 2 else piece
            if text:
                parts.append((text, place % 2 == 0))
        return parts


class Quoting:
    """The quoting for one model, made from the names of its control tokens."""

    def __init__(self, controls: Iterable[str]) -> None:
        trie = _trie(controls)
        self._controls = re.compile(_expression(trie)) if trie else None

    def __repr__(self) -> str:
        return "<Quoting of nothing>" if self._controls is None else "<Quoting>"

    def shelter(self, contents: Sequence[str]) -> Sheltered | None:
        """Replaces control tokens in messages by marks; None where the messages hold none."""
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
    """The regular expression of a trie. Matching takes time by the text's length alone; the longest word wins."""
    branches = [re.escape(letter) + _expression(below) for letter, below in node.items() if letter]
    if not branches:
        return ""
    body = f"(?:{'|'.join(branches)})"
    return f"{body}?" if "" in node else body
