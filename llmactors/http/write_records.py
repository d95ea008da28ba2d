"""The records that a gateway makes before it writes to a client, in the memory that it shares with its successors."""

import mmap
import struct
from typing import Final, NamedTuple

from llmactors.keeper.slots import HALF_BYTES, SLOT_BYTES

_RECORD: Final = struct.Struct("@QQIHHQ")
"""`begin`, `next_in`, `length`, the length of `reached`, `flags` and `generation`, in the order in which they are
stored. In the form of this machine, so that each is stored at once."""
NUMBERS_AT: Final = HALF_BYTES - _RECORD.size
"""Where these numbers stand in a half: at its end, behind the bytes, so that one call stores both in their order."""
RECORD_BYTES: Final = NUMBERS_AT
"""The most bytes of `reached` and `data` that fit a slot. If both are more, `data` goes into a memfd (`LARGE`)."""
STORES: Final = [struct.Struct(f"@{size + 7 & -8}s{_RECORD.format[1:]}").pack_into for size in range(2048)]
"""What stores a short record at once, by the number of its bytes. These begin at `size + 7 & -8` before the numbers."""

INTERIM: Final = 1
"""The write is an interim response: the response to the same request begins behind it."""
BEGUN: Final = 2
"""The write belongs to a response that goes on behind it."""
COMPLETE: Final = 4
"""With this write the response is whole."""
CLOSE: Final = 8
"""The connection ends behind this write."""
LARGE: Final = 16
"""`data` is in the memfd that the keeper got with `Large`, and not in the slot. Once all of `data` is written, the next
memfd may replace that one; `reached` is needed until the next record is made."""
SOCKET: Final = 32
"""The write belongs to a WebSocket. `next_in` is the input position of the first frame that is not dealt with, and all
records of the WebSocket are of the response to its handshake."""
SEQ: Final = 64
"""Where the log of a stream was followed to, one number, stands in place of `next_in`. It is read as `reached`."""


class WriteRecord(NamedTuple):
    """A write to a client, as the gateway recorded it before the write began."""

    generation: int
    """Counts the records of a connection, from 1."""
    begin: int
    """The output position of the first byte."""
    next_in: int
    """With `COMPLETE`: the input position at which the next request begins. `SOCKET` has a meaning of its own."""
    length: int
    flags: int
    reached: bytes
    """Where in its logs this write brings the client to, in a form that the connection and the handler choose."""
    data: bytes


def store_record(
    slots: mmap.mmap, slot: int, generation: int, begin: int, next_in: int, flags: int, reached: bytes, data: bytes
) -> None:
    """Writes a `WriteRecord`. Its generation comes last, so half a record never counts."""
    at = slot * SLOT_BYTES + generation % 2 * HALF_BYTES + NUMBERS_AT
    body = reached if flags & LARGE else reached + data
    size = len(body)
    start = at - (size + 7 & -8)
    if size < len(STORES):
        STORES[size](slots, start, body, begin, next_in, len(data), len(reached), flags, generation)
    else:
        slots[start : start + size] = body
        _RECORD.pack_into(slots, at, begin, next_in, len(data), len(reached), flags, generation)


def stored_records(slots: mmap.mmap, slot: int) -> list[WriteRecord]:
    """The records of a slot, the newest first. `LARGE` records have no `data`."""
    found = []
    for half in (0, HALF_BYTES):
        at = slot * SLOT_BYTES + half + NUMBERS_AT
        begin, next_in, length, reached_bytes, flags, generation = _RECORD.unpack_from(slots, at)
        if not generation:
            continue
        size = reached_bytes + (0 if flags & LARGE else length)
        start = at - (size + 7 & -8)
        body = slots[start : start + size]
        reached, data = body[:reached_bytes], body[reached_bytes:]
        if flags & SEQ:
            reached, next_in = b"%d" % next_in, 0
        found.append(WriteRecord(generation, begin, next_in, length, flags, reached, data))
    return sorted(found, reverse=True)
