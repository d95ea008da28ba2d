"""The slots: what gateways share of the connections, in a memfd that the keeper made. The keeper reads none of it.

A slot has two halves for records of writes (`http/write_records.py`), and a page for the journal of a short request
(`http/short_journal.py`) and a note (`http/answer_note.py`). Everything in a slot counts by numbers that are 0 where
nothing is stored.
"""

import contextlib
import mmap
from typing import Final

PAGE_BYTES: Final = 4096
HALF_BYTES: Final = 7 * PAGE_BYTES
"""The record with generation n stands in half n % 2 of the connection's slot, at its end."""
JOURNAL_AT: Final = 2 * HALF_BYTES
"""Where the page begins that has the journal of a short request."""
SLOT_BYTES: Final = JOURNAL_AT + PAGE_BYTES
"""Memory is taken page by page, at the first use: a slot needs three pages, and more for long writes only."""
NUMBER_BYTES: Final = 8
GENERATION_AT: Final = HALF_BYTES - NUMBER_BYTES
"""Where the generation stands in a half."""
JOURNAL_NUMBERS_BYTES: Final = 96
"""The first bytes of the last page, which have its numbers."""


def forget_slot(slots: mmap.mmap, slot: int) -> None:
    """Removes everything from a slot, and gives back the memory that only long records needed."""
    for half in (0, HALF_BYTES):
        begin = slot * SLOT_BYTES + half
        slots[begin + GENERATION_AT : begin + HALF_BYTES] = bytes(NUMBER_BYTES)
        with contextlib.suppress(OSError):  # the pages of some systems are larger
            slots.madvise(mmap.MADV_REMOVE, begin, HALF_BYTES - PAGE_BYTES)
    begin = slot * SLOT_BYTES + JOURNAL_AT
    slots[begin : begin + JOURNAL_NUMBERS_BYTES] = bytes(JOURNAL_NUMBERS_BYTES)
