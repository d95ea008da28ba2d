"""A quick reader of chunks that differ only in their text. Pure.

Nearly all chunks of a stream differ only in their text. After one chunk has been parsed, the text of a later chunk is
cut out between the same first and last bytes. `chunks` parses every chunk of another form.
"""

from collections.abc import Callable
from typing import Self, TypeVar

import msgspec

_BEGIN = b"data: "
_ENDS = {b"\n\n", b"\r\n\r\n"}
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
        cls, event: bytes, text: str, *, read: Callable[[bytes], _Read], plain: Callable[[str], _Read]
    ) -> Self | None:
        """The template of an event that says nothing but `text`; None where no template can be made of the event.

        Args:
            event: The event, with the empty line behind it.
            text: The text that was read in the event.
            read: Reads the data of an event.
            plain: What `read` returns for data that say nothing but a text.
        """
        literal = msgspec.json.encode(text)
        payload = event.removeprefix(_BEGIN).rstrip(b"\r\n")
        if payload.count(literal) != 1 or b"\n" in payload or b"\r" in payload or not event.startswith(_BEGIN):
            return None
        before, _, after = payload.partition(literal)
        # No text without a quotation mark and a backslash changes how the bytes around it are read. So if one other
        # text is read as it should be, then all are.
        if read(b'%b"%b"%b' % (before, _MARK.encode(), after)) != plain(_MARK):
            return None
        end = event[len(_BEGIN) + len(payload) :]
        return cls(b'%b%b"' % (_BEGIN, before), b'"%b%b' % (after, end)) if end in _ENDS else None

    def read(self, data: bytes, at: int) -> tuple[list[str], int]:
        """The texts of the events from `at` on that have this form, and where those events end."""
        before, after = self._before, self._after
        skip, texts = len(before), []
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
