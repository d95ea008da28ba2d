"""What the keeper holds of one connection: its socket, its journal, its large records, and its notes."""

import os
import time
from collections.abc import Iterator

from llmactors.keeper.protocol import MAX_PIECE_BYTES, Begin, Given, Large, Note, Piece, Trim, encode

Packet = tuple[bytes, int]
"""A packet, and the descriptor that travels with it; -1 for none."""


class ConnectionCopy:
    """A connection of a client. Call `close` at its end: the client sees the end when all copies are closed."""

    __slots__ = ("base_out", "began_at", "fd", "journal", "journal_at", "larges", "notes", "protected", "slot")

    def __init__(self, fd: int, slot: int) -> None:
        self.fd, self.slot = fd, slot
        self.journal_at = self.base_out = 0
        self.began_at = 0.0  # when the first byte of the journal came
        self.journal: bytearray | None = None  # most connections are idle, and need none
        self.larges: list[tuple[int, int]] | None = None
        self.notes: dict[int, bytes] | None = None
        self.protected = True

    def __repr__(self) -> str:
        return f"<ConnectionCopy fd={self.fd} slot={self.slot}>"

    def add(self, piece: Piece) -> int:
        """Appends to the journal, and returns by how many bytes it grew. After a gap, the journal is given up."""
        if not self.protected:
            return 0
        if self.journal is None:
            self.journal, self.began_at = bytearray(), time.monotonic()
        known = self.journal_at + len(self.journal) - piece.at
        if known < 0 or piece.at < self.journal_at:
            return -self.forget()
        self.journal += piece.data[known:]
        return max(0, len(piece.data) - known)

    def add_note(self, note: Note) -> int:
        """Holds a note in place of the one before it, and returns by how many bytes the notes grew."""
        if not self.protected:
            return 0
        self.notes = self.notes if self.notes is not None else {}
        known, self.notes[note.key] = self.notes.get(note.key, b""), note.data
        return len(note.data) - len(known)

    def trim(self, message: Trim) -> int:
        """Forgets the journal and the large records of a request that is over, and returns how many bytes it had."""
        gone = min(message.next_in - self.journal_at, len(self.journal or b""))
        if self.journal is not None:
            del self.journal[:gone]
            self.journal = self.journal or None
            self.began_at = time.monotonic()
        self.journal_at, self.base_out = message.next_in, message.base_out
        self._keep_larges(0)
        return gone

    def forget(self) -> int:
        """Gives up journal and notes, and returns how many bytes those were. A takeover will cut the connection."""
        gone = len(self.journal or b"") + sum(map(len, (self.notes or {}).values()))
        self.protected, self.journal, self.notes = False, None, None
        self._keep_larges(0)
        return gone

    def add_large(self, generation: int, fd: int) -> None:
        """Holds the memfd of a large record. The two newest are held, because the newest one may not be made yet."""
        self.larges = [*(self.larges or ()), (generation, fd)]
        self._keep_larges(2)

    def close(self) -> int:
        """Closes everything, and returns how many bytes journal and notes had."""
        os.close(self.fd)
        self.fd = -1
        return self.forget()

    def packets(self, cid: int, *, taken_over: bool) -> Iterator[Packet]:
        """What gives the connection to a gateway, made packet by packet: the connection may end in between."""
        age_ms = round((time.monotonic() - self.began_at) * 1000)
        more = bool(self.larges or self.notes or self.journal)
        yield encode(Given(cid, self.slot, self.journal_at, self.base_out, taken_over, age_ms, more)), self.fd
        if not more:
            return
        for generation, fd in self.larges or ():
            yield encode(Large(cid, generation)), fd
        for key, data in (*(self.notes or {}).items(),):
            yield encode(Note(cid, key, data)), -1
        at = 0
        while self.fd >= 0 and at < len(self.journal or b""):
            data = bytes((self.journal or b"")[at : at + MAX_PIECE_BYTES])
            yield encode(Piece(cid, self.journal_at + at, data)), -1
            at += len(data)
        yield encode(Begin(cid)), -1

    def _keep_larges(self, count: int) -> None:
        found = self.larges or []
        for _, fd in found[: len(found) - count]:
            os.close(fd)
        self.larges = found[len(found) - count :] or None
