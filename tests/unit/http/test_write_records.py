"""The records of writes in shared memory."""

import mmap
import os

from llmactors.http.write_records import (
    BEGUN,
    LARGE,
    RECORD_BYTES,
    SEQ,
    STORES,
    WriteRecord,
    store_record,
    stored_records,
)
from llmactors.keeper.slots import GENERATION_AT, JOURNAL_AT, SLOT_BYTES, forget_slot


def slots(count: int = 3) -> mmap.mmap:
    return mmap.mmap(-1, count * SLOT_BYTES)


def record(
    generation: int, data: bytes = b"data: x\n\n", *, flags: int = BEGUN, reached: bytes = b"seq 4"
) -> WriteRecord:
    return WriteRecord(generation, 1000 + generation, 77, len(data), flags, reached, data)


def store(memory: mmap.mmap, slot: int, found: WriteRecord) -> None:
    store_record(memory, slot, found.generation, found.begin, found.next_in, found.flags, found.reached, found.data)


def test_two_newest_records_are_read() -> None:
    memory = slots()
    for generation in (1, 2, 3):
        store(memory, 1, record(generation))
    assert stored_records(memory, 1) == [record(3), record(2)]
    assert stored_records(memory, 0) == stored_records(memory, 2) == []


def test_largest_record_fills_half_of_a_slot() -> None:
    memory = slots()
    full = record(2, b"x" * (RECORD_BYTES - 5))
    store(memory, 1, record(1))
    store(memory, 1, full)
    assert stored_records(memory, 1) == [full, record(1)]
    assert stored_records(memory, 0) == stored_records(memory, 2) == []


def test_record_of_each_size_is_read_back() -> None:
    memory = slots()
    text = bytes(range(256)) * 114
    sizes = (*range(len(STORES) + 9), *range(len(STORES) + 9, RECORD_BYTES, 997), RECORD_BYTES)
    for size in sizes:
        found = record(size + 1, text[size % 256 :][:size], reached=b"")
        store(memory, 1, found)
        assert stored_records(memory, 1)[0] == found
    assert stored_records(memory, 0) == stored_records(memory, 2) == []


def test_large_record_leaves_its_bytes_out_of_the_slot() -> None:
    memory = slots()
    store(memory, 0, record(1, b"x" * 90_000, flags=BEGUN | LARGE))
    (found,) = stored_records(memory, 0)
    assert found == record(1, b"x" * 90_000, flags=BEGUN | LARGE)._replace(data=b"")


def test_half_a_record_does_not_count() -> None:
    memory = slots()
    store(memory, 0, record(1))
    store(memory, 0, record(2))
    memory[GENERATION_AT : GENERATION_AT + 8] = bytes(8)  # killed before the generation was stored
    assert stored_records(memory, 0) == [record(1)]


def test_number_that_was_reached_is_read_as_its_digits() -> None:
    memory = slots()
    store_record(memory, 0, 1, 1000, 41, BEGUN | SEQ, b"", b"data")
    assert stored_records(memory, 0) == [WriteRecord(1, 1000, 0, 4, BEGUN | SEQ, b"41", b"data")]


def test_records_are_forgotten_with_their_connection() -> None:
    memory = slots()
    for generation in (1, 2):
        for slot in (0, 1):
            store(memory, slot, record(generation))
    forget_slot(memory, 0)
    assert (stored_records(memory, 0), len(stored_records(memory, 1))) == ([], 2)


def test_memory_of_long_records_is_given_back() -> None:
    fd = os.memfd_create("slots")
    os.ftruncate(fd, 2 * SLOT_BYTES)
    with mmap.mmap(fd, 2 * SLOT_BYTES) as memory:
        for slot in (0, 1):
            for generation in (1, 2):
                store(memory, slot, record(generation, b"x" * 20_000))
            memory[slot * SLOT_BYTES + JOURNAL_AT] = 1  # the page of a journal stays
        full = os.fstat(fd).st_blocks * 512
        forget_slot(memory, 0)
        assert full - os.fstat(fd).st_blocks * 512 == 2 * 4 * mmap.PAGESIZE
        assert (stored_records(memory, 0), len(stored_records(memory, 1))) == ([], 2)
    os.close(fd)
