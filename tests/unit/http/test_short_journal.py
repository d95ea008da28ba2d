"""The journals of short requests in shared memory."""

import mmap

from llmactors.http.short_journal import (
    GENERATION_OF_JOURNAL_AT,
    SHORT_JOURNAL_BYTES,
    ShortJournal,
    store_journal,
    stored_journal,
)
from llmactors.keeper.slots import JOURNAL_AT, SLOT_BYTES, forget_slot


def slots(count: int = 3) -> mmap.mmap:
    return mmap.mmap(-1, count * SLOT_BYTES)


def test_slot_that_was_never_used_has_no_journal() -> None:
    assert stored_journal(slots(), 1) is None


def test_bytes_are_added_and_forgotten_in_one_step() -> None:
    memory = slots()
    store_journal(memory, 1, 1, 0, 0, 5, 5, b"first")
    store_journal(memory, 1, 2, 0, 0, 5, 8, b" is")
    assert stored_journal(memory, 1) == ShortJournal(2, 0, 0, 5, b"first is")
    store_journal(memory, 1, 3, 8, 70, 5, 14, b"second")
    assert stored_journal(memory, 1) == ShortJournal(3, 8, 70, 5, b"second")
    assert stored_journal(memory, 0) is stored_journal(memory, 2) is None


def test_longest_journal_goes_round_the_end_of_its_room() -> None:
    memory = slots()
    data = bytes(number % 251 for number in range(SHORT_JOURNAL_BYTES))
    store_journal(memory, 1, 1, 1000, 9, 5, 1000 + len(data), data)
    assert stored_journal(memory, 1) == ShortJournal(1, 1000, 9, 5, data)
    assert stored_journal(memory, 0) is stored_journal(memory, 2) is None
    assert not memory[SLOT_BYTES : SLOT_BYTES + JOURNAL_AT].strip(b"\0")


def test_half_a_change_does_not_count() -> None:
    memory = slots()
    store_journal(memory, 0, 1, 0, 0, 5, 5, b"first")
    store_journal(memory, 0, 2, 5, 70, 5, 11, b"second")
    at = JOURNAL_AT + GENERATION_OF_JOURNAL_AT
    memory[at : at + 8] = bytes(8)  # killed before the generation was stored
    assert stored_journal(memory, 0) == ShortJournal(1, 0, 0, 5, b"first")


def test_journal_is_forgotten_with_its_connection() -> None:
    memory = slots()
    for generation in (1, 2):
        for slot in (0, 1):
            store_journal(memory, slot, generation, 0, 0, 5, generation, b"x")
    forget_slot(memory, 0)
    assert stored_journal(memory, 0) is None
    assert stored_journal(memory, 1) == ShortJournal(2, 0, 0, 5, b"xx")
