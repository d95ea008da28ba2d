"""Finds a tag in a text that comes in parts. Pure."""

from collections.abc import Sequence


def first_of(text: str, tags: Sequence[str]) -> tuple[int, str] | None:
    """Where the first of the tags begins in the text, and which tag that is; None without a tag."""
    found = [(at, tag) for tag in tags if (at := text.find(tag)) >= 0]
    return min(found) if found else None


def undecided(text: str, tags: Sequence[str]) -> int:
    """The length of the end of `text` that may belong to a tag: the beginning of a tag, and the white space before."""
    return max(_undecided(text, tag) for tag in tags) if tags else 0


def _undecided(text: str, tag: str) -> int:
    length = min(len(tag) - 1, len(text))
    while length and not text.endswith(tag[:length]):
        length -= 1
    before = text[: len(text) - length]
    return length + len(before) - len(before.rstrip())
