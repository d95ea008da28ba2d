"""A quick reader of chunks that differ only in their text. Pure.

Nearly all chunks of a stream are the same bytes around another text. Once one of them has been read, the text of the
next ones is what stands between the same beginning and the same end. Whatever has another form is left to the reader
of all forms.
"""

from collections.abc import Callable
from typing import Self, TypeVar

import msgspec

_MARK = "llmactors mark"
_text_of = msgspec.json.Decoder(str).decode
_Read = TypeVar("_Read")


class ChunkTemplate:
    """The bytes of an event around its text.

    Args:
        before: From the beginning of the event to the quotation mark before the text.
        after: From the quotation mark after the text to the end of the event.
    """

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after

    def __repr__(self) -> str:
        return f"<ChunkTemplate {self._before!r} … {self._after!r}>"

    @classmethod
    def learn(
        cls,
        payload: bytes,
        text: str,
        line_end: bytes,
        *,
        read: Callable[[bytes], _Read],
        plain: Callable[[str], _Read],
    ) -> Self | None:
        """The template of an event whose data are `payload`, of which `text` is all that is said; None without one.

        Args:
            payload: A JSON object.
            text: The text that was read in the payload.
            line_end: How the lines of the stream end.
            read: Reads a payload.
            plain: What `read` returns for a payload that says nothing but a text.
        """
        literal = msgspec.json.encode(text)
        if payload.count(literal) != 1 or b"\n" in payload or b"\r" in payload:
            return None
        before, _, after = payload.partition(literal)
        # No text without a quotation mark and a backslash changes how the bytes around it are read. So if one other
        # text is read as it should be, then all are.
        if read(b'%b"%b"%b' % (before, _MARK.encode(), after)) != plain(_MARK):
            return None
        return cls(b'data: %b"' % before, b'"%b%b' % (after, 2 * line_end))

    def read(self, data: bytes) -> tuple[list[str], int]:
        """The texts of the events at the beginning of `data` that have this form, and how many bytes those have."""
        before, after = self._before, self._after
        skip, texts, at = len(before), [], 0
        while data.startswith(before, at):
            begin = at + skip
            end = data.find(b'"', begin)
            if end <= begin or not data.startswith(after, end):
                break
            try:
                texts.append(_text_of(data[begin - 1 : end + 1]))
            except (msgspec.DecodeError, UnicodeDecodeError):
                break
            at = end + len(after)
        return texts, at
