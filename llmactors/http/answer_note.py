"""What a gateway notes of a stream that it has begun to answer with, in the memory that it shares with the next one.

With the note, the next gateway goes on with the stream and needs no request: it parses nothing, admits nothing and
renders nothing again. A stream without a note, or with one that nobody understands, goes on by its request.
"""

import mmap
import struct

import msgspec

from llmactors.http.short_journal import ANSWER_AT, ANSWER_BYTES
from llmactors.keeper.slots import SLOT_BYTES

_NUMBERS = struct.Struct("@QQ")
"""One more than the input position of the request, and the length of the note."""
_NOTHING = _NUMBERS.pack(0, 0)
MOST_BYTES = ANSWER_BYTES - _NUMBERS.size


class AnswerNote(msgspec.Struct, frozen=True, array_like=True):
    """The answer to one request: a body in chunks that has begun and has not ended."""

    next_at: int
    """The input position behind the request."""
    takes_another: bool
    """Whether the connection takes another request behind this answer."""
    method: str
    path: str
    application: bytes
    """What the application noted for itself."""


_decode = msgspec.msgpack.Decoder(AnswerNote).decode
_encode = msgspec.msgpack.encode


def store_answer(slots: mmap.mmap, slot: int, request_at: int, answer: AnswerNote) -> None:
    """Notes the answer to the request at this input position, in place of the note before. A long note is left out."""
    data = _encode(answer)
    if len(data) > MOST_BYTES:
        return
    at = slot * SLOT_BYTES + ANSWER_AT
    start = at + _NUMBERS.size
    slots[at:start] = _NOTHING  # a note of which only a part was stored must not count
    slots[start : start + len(data)] = data
    slots[at:start] = _NUMBERS.pack(request_at + 1, len(data))


def stored_answer(slots: mmap.mmap, slot: int, request_at: int) -> AnswerNote | None:
    """The note of the answer to the request at this input position; None where there is none."""
    at = slot * SLOT_BYTES + ANSWER_AT
    behind, length = _NUMBERS.unpack_from(slots, at)
    if behind != request_at + 1:
        return None
    start = at + _NUMBERS.size
    try:
        return _decode(slots[start : start + length])
    except msgspec.MsgspecError:
        return None
