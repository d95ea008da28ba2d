"""The journal of one connection: what its client sent of the request that is under way.

Bytes are journalled before they are taken out of the kernel's buffer: in the connection's slot of the shared memory or,
if the request is long, at the keeper. Once the answer to a request is recorded, the journal need not have the request
any more, and once that record is written to its end, the journal is trimmed.
"""

import time

from llmactors.http.keeper_link import JOURNALS_BYTES, GivenConnection, KeeperLink
from llmactors.http.short_journal import SHORT_JOURNAL_BYTES, store_journal, stored_journal
from llmactors.keeper.protocol import Given, Trim, Unprotected

JOURNAL_BYTES = 16 * 1024 * 1024
"""The most bytes that the journal of one connection may have. Beyond that the connection is not protected."""


class HeldJournal:
    """The journal of one connection, as its gateway writes it."""

    __slots__ = (
        *(
            "_at_keeper",
            "_began_ms",
            "_cid",
            "_generation",
            "_kept_base_out",
            "_kept_from",
            "_link",
            "_slot",
            "_untold",
        ),
        *("base_out", "end", "has_large", "needs_record", "request_at"),
    )

    def __init__(self, told: Given, link: KeeperLink) -> None:
        self._link = link
        self._cid, self._slot = told.cid, told.slot
        self.request_at = self.end = told.journal_at
        """The input positions of the request that is under way, and behind the journal."""
        self.base_out = told.base_out
        """The output position at which the response to that request begins."""
        self.needs_record = False
        """Whether the record of the response before is needed: its end is not written yet, and another gateway may have
        to go on with that. Nothing of the journal is forgotten until then."""
        self.has_large = False
        """Whether the keeper holds a large record."""
        self._untold = False
        """Whether the journal still has a request before that one."""
        self._at_keeper = False
        """Whether the journal is too long for the slot, and the keeper has it."""
        self._kept_from, self._kept_base_out = told.journal_at, told.base_out
        """The input position of the first byte of the journal in the slot, and the output position of its response."""
        self._generation = self._began_ms = 0

    def __repr__(self) -> str:
        return f"<HeldJournal {self.request_at} to {self.end}{' at the keeper' if self._at_keeper else ''}>"

    def read_left(self, given: GivenConnection) -> bytes:
        """Reads what the gateway before left of this journal, from `request_at` on.

        The slot and the keeper may both have a journal: the other one's request was over, or was too long for the slot.
        """
        told, journal = given.told, bytes(given.journal)
        short = stored_journal(self._link.slots, self._slot)
        if short is not None:
            self._generation, self._began_ms = short.generation, short.began_ms
            self._kept_from, self._kept_base_out = short.begin, short.base_out
        if short is not None and short.end >= told.journal_at + len(journal):
            self.request_at, journal, self.base_out = short.begin, short.data, short.base_out
        else:
            self._at_keeper = bool(journal)
            self._began_ms = int(time.monotonic() * 1000) - told.age_ms
        self.end = self.request_at + len(journal)
        self._link.journal_bytes += len(journal)
        return journal

    @property
    def age_s(self) -> float:
        """How long ago the first byte came."""
        return max(0.0, time.monotonic() - self._began_ms / 1000)

    # Bytes of the client.

    def has_room(self, count: int) -> bool:
        """Whether so many bytes more are within the bounds on this journal and on all journals."""
        of_request = self.end + count - self.request_at
        return of_request <= JOURNAL_BYTES and self._link.journal_bytes + count <= JOURNALS_BYTES

    def will_forget(self, count: int) -> bool:
        """Whether `add` of so many bytes forgets the request before. The response to that must be written by then."""
        return not self._at_keeper and self.end + count - self._kept_from > SHORT_JOURNAL_BYTES

    def add(self, data: bytes) -> None:
        """Writes down the next bytes of the client."""
        if self._at_keeper or self.end + len(data) - self.request_at > SHORT_JOURNAL_BYTES:
            self._add_at_keeper(data)
        else:
            if self.will_forget(len(data)):
                self._store(b"")  # makes room
            self._store(data)
        self._link.journal_bytes += len(data)

    def _store(self, data: bytes) -> None:
        self._generation += 1
        if not self.needs_record:
            if self.request_at == self.end or self.request_at != self._kept_from:
                self._began_ms = int(time.monotonic() * 1000)
            self._kept_from, self._kept_base_out, self._untold = self.request_at, self.base_out, False
        begin, base_out, end = self._kept_from, self._kept_base_out, self.end + len(data)
        store_journal(self._link.slots, self._slot, self._generation, begin, base_out, self._began_ms, end, data)
        self.end = end

    def _add_at_keeper(self, data: bytes) -> None:
        """Gives the keeper the next bytes of a long request, and before them those that are in the slot.

        The slot has this request alone: the one before was forgotten with the first bytes of this one, or when its
        response was written, for which `will_forget` has the caller wait.
        """
        if not self._at_keeper:
            # The keeper forgets what is before this request, and large records.
            self._at_keeper, self._untold, self.has_large = True, False, False
            short = stored_journal(self._link.slots, self._slot)
            self._link.send_nowait(Trim(self._cid, self.request_at, self.base_out))
            if short is not None and self.request_at < self.end:
                self._link.journal_nowait(self._cid, self.request_at, short.data)
        self._link.journal_nowait(self._cid, self.end, data)
        self.end += len(data)

    # What is forgotten.

    def trim_to(self, request_at: int, base_out: int) -> None:
        """Forgets what the journal has before this request.

        The journal need not be changed before the next record is made: until then, the record of the whole response
        says the same. So a short request is forgotten together with the beginning of the next one.
        """
        self._link.journal_bytes -= request_at - self.request_at
        self.request_at, self.base_out, self._untold = request_at, base_out, True
        if request_at < self.end or self._at_keeper or self.has_large:
            self.trim()

    def trim(self) -> None:
        """Makes the trim known that was put off, unless a record is needed without which it cannot be."""
        if not self._untold or self.needs_record:
            return
        self._untold = False
        if self._at_keeper or self.has_large:
            self._link.send_nowait(Trim(self._cid, self.request_at, self.base_out))
            self.has_large = False
        if not self._at_keeper:
            self._store(b"")
        elif self.request_at == self.end:
            self._at_keeper = False

    def record_is_written(self) -> None:
        """The newest record is written to its end."""
        if self.needs_record:
            self.needs_record = False
            self.trim()

    def unprotect(self) -> None:
        """Forgets all, and lets the connection end with this process."""
        self.forget()
        self.end = self.request_at
        self._link.send_nowait(Unprotected(self._cid))

    def forget(self) -> None:
        """The connection is over, or is not protected any more."""
        self._link.journal_bytes -= self.end - self.request_at
