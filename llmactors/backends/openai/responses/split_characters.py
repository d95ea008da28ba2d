r"""Characters that a server has cut into two pieces of text, put together again. Pure.

Two kinds of cuts are known. A server that writes JSON with escapes may end a text with the first half of a surrogate
pair (`\ud83d`) and begin the next text with the second half. A server that streams bytes may end a text in the middle
of the UTF-8 of a character; `chunk_body` reads such bytes as the code points U+DC80 to U+DCFF (PEP 383).
"""

import re

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_BYTES = re.compile("[\udc80-\udcff]+")
_LONE = re.compile("[\ud800-\udfff]")
_MOST_BYTES = 3
"""How many bytes of a character's UTF-8 can be incomplete."""


class SplitCharacters:
    """The texts of one stream, in their order. The first part of a cut character waits for the next text."""

    def __init__(self) -> None:
        self._held = ""

    def __repr__(self) -> str:
        return f"<SplitCharacters held={self._held!r}>"

    @property
    def holds_part(self) -> bool:
        """Whether the first part of a cut character waits."""
        return bool(self._held)

    def feed(self, text: str) -> str:
        """Takes the next text, and returns the text without cut characters. A part that fits no other part becomes
        U+FFFD.
        """
        if not self._held and (text.isascii() or not _LONE.search(text)):
            return text
        whole, self._held = _BYTES.sub(_decoded, _PAIR.sub(_joined, self._held + text)), ""
        end = len(whole)
        if whole and "\ud800" <= whole[-1] <= "\udbff":
            end -= 1
        else:
            while end and len(whole) - end < _MOST_BYTES and "\udc80" <= whole[end - 1] <= "\udcff":
                end -= 1
        whole, self._held = whole[:end], whole[end:]
        return _LONE.sub(_REPLACEMENT, whole)

    def flush(self) -> str:
        """What stands for the part that is held, where no text follows."""
        held, self._held = self._held, ""
        return _REPLACEMENT if held else ""


def _joined(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def _decoded(run: re.Match[str]) -> str:
    """The characters whose bytes the run holds. Bytes of no character, and those of a cut character, stay."""
    return run[0].encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
