"""The journals of short requests, in the memory that a gateway shares with its successors.

A message to the keeper for each request costs keeper and gateway more than five tokens do. So the keeper gets the
journal of a long request alone, and never hears of a short one.
"""

import mmap
import struct
from typing import Final, NamedTuple

from llmactors.keeper.slots import JOURNAL_AT, NUMBER_BYTES, SLOT_BYTES

_NUMBERS: Final = struct.Struct("@QQQQQ")
"""`begin`, `base_out`, `began_ms`, `end` and `generation`, in the order in which they are stored."""
GENERATION_OF_JOURNAL_AT: Final = _NUMBERS.size - NUMBER_BYTES
"""Where the generation stands among the numbers."""
NUMBERS_BYTES: Final = _NUMBERS.size
ANSWER_AT: Final = JOURNAL_AT + 2 * NUMBERS_BYTES
"""Where the note of the answer that is under way stands (`answer_note`)."""
ANSWER_BYTES: Final = 512
_RING_AT: Final = ANSWER_AT + ANSWER_BYTES
SHORT_JOURNAL_BYTES: Final = SLOT_BYTES - _RING_AT
"""The most bytes that a journal in a slot can have. The byte at position p stands at p modulo this."""


class ShortJournal(NamedTuple):
    """A journal as a gateway left it."""

    generation: int
    """Counts the changes of the journal, from 1."""
    begin: int
    """The input position of the first byte."""
    base_out: int
    """The output position at which the response to the first request begins."""
    began_ms: int
    """When the first byte came, on the system's monotonic clock."""
    data: bytes

    @property
    def end(self) -> int:
        """The input position behind the last byte."""
        return self.begin + len(self.data)


def store_journal(
    slots: mmap.mmap, slot: int, generation: int, begin: int, base_out: int, began_ms: int, end: int, data: bytes
) -> None:
    """Adds `data`, the last bytes before `end`, and forgets what is before `begin`: both, or neither.

    The bytes must have room behind those of the journal before.
    """
    page = slot * SLOT_BYTES + JOURNAL_AT
    at = slot * SLOT_BYTES + _RING_AT
    start = (end - len(data)) % SHORT_JOURNAL_BYTES
    first = data[: SHORT_JOURNAL_BYTES - start]
    slots[at + start : at + start + len(first)] = first
    if len(first) < len(data):
        slots[at : at + len(data) - len(first)] = data[len(first) :]
    _NUMBERS.pack_into(slots, page + generation % 2 * NUMBERS_BYTES, begin, base_out, began_ms, end, generation)


def stored_journal(slots: mmap.mmap, slot: int) -> ShortJournal | None:
    """The journal of a slot."""
    page = slot * SLOT_BYTES + JOURNAL_AT
    halves = (_NUMBERS.unpack_from(slots, page + half * NUMBERS_BYTES) for half in (0, 1))
    begin, base_out, began_ms, end, generation = max(halves, key=lambda numbers: numbers[-1])
    if not generation:
        return None
    at = slot * SLOT_BYTES + _RING_AT
    start, length = begin % SHORT_JOURNAL_BYTES, end - begin
    data = slots[at + start : at + min(start + length, SHORT_JOURNAL_BYTES)]
    return ShortJournal(generation, begin, base_out, began_ms, data + slots[at : at + length - len(data)])
