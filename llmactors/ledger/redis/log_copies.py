"""A gateway's copies of the logs that its clients read. Pushes and reads extend a copy.

A push is applied only if the push continues the copy without a hole; otherwise the copy `is_behind`, and its log is
read. This module does no I/O and reads no clock.
"""

from collections.abc import Callable, Iterator, Sequence

import attrs
import trio

from llmactors.ledger.core.token_log import TokenLog
from llmactors.ledger.redis.codec import decode_pushes
from llmactors.ledger.values import Candidate
from llmactors.messages import Failed, Terminal, TokenDelta

DIVERGED = Failed(
    "INTERRUPTED", "the ledger lost tokens that were sent already, and others were written in their place"
)
_SLOWER = 4.0
UNREADABLE = Failed("INTERNAL", "the ledger cannot read this request")
LOST = Failed("INTERRUPTED", "the ledger no longer knows how this answer ended")


@attrs.define(eq=False)
class LogCopy(TokenLog):
    """A copy of one log from seq 1. Redis may lose the end of the log, or all of it; the copy keeps what it has."""

    candidate: Candidate | None = None
    """Set if this gateway admitted the request: it can then restore a request that Redis forgot."""
    epoch: int = 0
    """The highest epoch whose tokens are in the copy, as far as is known."""
    opened_at: float = 0.0
    """When this gateway began the copy: for a request that this gateway admitted, the time of the admission."""
    updated_at: float = 0.0
    """When a push or a read last showed the length of the log."""
    heard_at: float = 0.0
    """When a push last came, or the copy began."""
    used_at: float = 0.0
    """When a client last came to read the request, or had the request admitted."""
    is_behind: bool = False
    """The log has entries that the copy lacks, so the log is to be read."""
    needs_comparison: bool = False
    """The log may have lost its end, so the log is to be read from the beginning and compared."""
    unreadable: int = 0
    """How many reads in a row failed because a key of the request has another type."""
    is_gone: bool = False
    """Redis keeps the log no longer, though it is read here."""
    opening: trio.Event | None = None
    """Set once the copy is complete so far, by a first read or because the request is new. Followers wait for it."""

    @property
    def is_kept_ended(self) -> bool:
        """Whether Redis keeps the log, which has ended, as far as is known."""
        return self.end is not None and not self.is_gone

    def merge(self, epoch: int, first_seq: int, tokens: Sequence[TokenDelta], end: Terminal | None) -> None:
        """Extends the copy by a part of the log, from a push or a read. Closes the copy if the two contradict."""
        if self.end is not None:
            return
        known = len(self.tokens)
        if first_seq > known + 1:
            self.is_behind = True
            return
        if first_seq <= known:
            again = tokens[: known + 1 - first_seq]
            if self.tokens[first_seq - 1 : first_seq - 1 + len(again)] != list(again):
                self.close(DIVERGED)
                return
        self.epoch = max(self.epoch, epoch)
        self.extend(first_seq, tokens)
        if end is None:
            return
        # The end's seq is the length of the log. A log shorter than the copy has lost tokens that clients have read.
        self.close(end if first_seq + len(tokens) == len(self.tokens) + 1 else DIVERGED)


def is_silent(copy: LogCopy, now: float, silence_s: float) -> bool:
    """Whether a log is to be read again because its copy was not updated for `silence_s`. A log of which nothing was
    heard for long is read less often, but at least every `_SLOWER` times `silence_s`: thousands of streams that wait
    would else be most of what a server does.
    """
    after_s = min(max(silence_s, (now - copy.heard_at) / 2), _SLOWER * silence_s)
    return copy.updated_at + after_s <= now


class LogCopies:
    """All copies of one gateway.

    `now` is the time in seconds, monotonic. `on_diverged` is called with a copy that ended because its log contradicts
    the copy.
    """

    def __init__(self, now: Callable[[], float], on_diverged: Callable[[LogCopy], None] = lambda _: None) -> None:
        self._now = now
        self._on_diverged = on_diverged
        self._copies: dict[str, LogCopy] = {}

    def __len__(self) -> int:
        return len(self._copies)

    def __iter__(self) -> Iterator[LogCopy]:
        return iter(tuple(self._copies.values()))

    def __repr__(self) -> str:
        return f"<LogCopies of {len(self._copies)} logs>"

    def get(self, request_id: str) -> LogCopy | None:
        return self._copies.get(request_id)

    def open(self, request_id: str, candidate: Candidate | None = None) -> LogCopy:
        """Adds an empty copy."""
        now = self._now()
        copy = LogCopy(request_id, candidate=candidate, opened_at=now, updated_at=now, heard_at=now, used_at=now)
        self._copies[request_id] = copy
        return copy

    def drop(self, copy: LogCopy) -> None:
        """Removes a copy that nobody reads any more."""
        if self._copies.get(copy.request_id) is copy:
            del self._copies[copy.request_id]

    def apply_push(self, payload: bytes) -> bool:
        """Merges a push into the copies. Returns whether a copy is behind now."""
        behind = False
        now = self._now()
        for request_id, epoch, first_seq, tokens, end in decode_pushes(payload):
            copy = self._copies.get(request_id)
            if copy is not None:
                copy.updated_at = copy.heard_at = now
                self.merge(copy, epoch, first_seq, tokens, end)
                behind = behind or copy.is_behind
        return behind

    def merge(
        self, copy: LogCopy, epoch: int, first_seq: int, tokens: Sequence[TokenDelta], end: Terminal | None
    ) -> None:
        """Extends a copy by a part of its log, as `LogCopy.merge`."""
        was_open = copy.end is None
        copy.merge(epoch, first_seq, tokens, end)
        if was_open and copy.end is DIVERGED:
            self._on_diverged(copy)

    def compare_all(self) -> None:
        """Has all logs compared: the connection was lost, so pushes were missed, and the server may be another."""
        for copy in self._copies.values():
            copy.needs_comparison = True
