"""The notes of streams in shared memory."""

import mmap
import os

import pytest

from llmactors.http.answer_note import MOST_BYTES, AnswerNote, store_answer, stored_answer
from llmactors.http.short_journal import (
    ANSWER_AT,
    SHORT_JOURNAL_BYTES,
    ShortJournal,
    store_journal,
    stored_journal,
)
from llmactors.keeper.slots import SLOT_BYTES, forget_slot

ANSWER = AnswerNote(210, takes_another=True, method="POST", path="/v1/generate", application=b"app")


def slots(count: int = 3) -> mmap.mmap:
    return mmap.mmap(-1, count * SLOT_BYTES)


def test_note_holds_for_its_request_alone() -> None:
    memory = slots()
    assert stored_answer(memory, 1, 0) is None
    store_answer(memory, 1, 0, ANSWER)
    assert stored_answer(memory, 1, 0) == ANSWER
    assert stored_answer(memory, 1, 210) is stored_answer(memory, 0, 0) is stored_answer(memory, 2, 0) is None


def test_half_a_note_does_not_count() -> None:
    """The process dies in the middle of a store."""

    class Dying:
        def __init__(self, stores: int) -> None:
            self.left = stores

        def __setitem__(self, where: slice, data: bytes) -> None:
            self.left -= 1
            if self.left >= 0:
                memory[where] = data

    memory = slots()
    for stores in range(3):
        store_answer(memory, 1, 0, ANSWER)
        store_answer(Dying(stores), 1, 0, AnswerNote(9, takes_another=False, method="GET", path="/", application=b""))  # type: ignore[arg-type]
        assert stored_answer(memory, 1, 0) in ((ANSWER,) if stores == 0 else (None,))


@pytest.mark.parametrize("damage", [b"\xff", b"\xc1", b"\x90"])
def test_note_of_another_form_is_none(damage: bytes) -> None:
    memory = slots()
    store_answer(memory, 1, 0, ANSWER)
    at = SLOT_BYTES + ANSWER_AT + 16
    memory[at : at + 1] = damage
    assert stored_answer(memory, 1, 0) is None


def test_long_note_is_left_out() -> None:
    memory = slots()
    store_answer(memory, 1, 0, AnswerNote(1, takes_another=True, method="GET", path="/", application=bytes(MOST_BYTES)))
    assert stored_answer(memory, 1, 0) is None


def test_note_and_journal_have_places_of_their_own() -> None:
    memory = slots()
    data = os.urandom(SHORT_JOURNAL_BYTES)
    most = AnswerNote(7, takes_another=True, method="POST", path="/" * 100, application=os.urandom(MOST_BYTES - 120))
    store_journal(memory, 1, 1, 0, 0, 5, len(data), data)
    store_answer(memory, 1, 0, most)
    assert stored_journal(memory, 1) == ShortJournal(1, 0, 0, 5, data)
    assert stored_answer(memory, 1, 0) == most
    store_journal(memory, 1, 2, len(data), 0, 5, 2 * len(data), data)
    assert stored_answer(memory, 1, 0) == most


def test_note_is_forgotten_with_its_connection() -> None:
    memory = slots()
    for slot in (0, 1):
        store_answer(memory, slot, 0, ANSWER)
    forget_slot(memory, 0)
    assert stored_answer(memory, 0, 0) is None
    assert stored_answer(memory, 1, 0) == ANSWER
