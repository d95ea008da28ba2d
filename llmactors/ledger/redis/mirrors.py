"""A gateway's copies of the logs that it reads: grown by pushes, mended by reading, and what mends the log in turn.

A push counts only where it is contiguous with the copy; all else makes the copy `behind`, and its log is read. This
module does no I/O and reads no clock.
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
LOST = Failed("INTERRUPTED", "the ledger no longer knows how this answer ended")


@attrs.define(eq=False)
class Mirror(TokenLog):
    """One log, from seq 1 on, as far as it is known here. It outlives the log, which may lose its end or all of it."""

    candidate: Candidate | None = None
    """Known to the gateway that admitted it, which can then admit it anew if Redis forgot it."""
    epoch: int = 0
    """Whose tokens these are, at the least."""
    heard_at: float = 0.0
    """When it was last said how far the log is, by a push or by reading it."""
    wanted_at: float = 0.0
    """When somebody last came to read it, or had the request admitted."""
    behind: bool = False
    """It is to be read."""
    doubtful: bool = False
    """It is to be read from the beginning, and compared: the log may have lost its end since."""
    opening: trio.Event | None = None
    """Set once the log was read for the first time, or was found to begin here: until then nobody may follow it."""

    def hear(self, epoch: int, first_seq: int, tokens: Sequence[TokenDelta], end: Terminal | None) -> None:
        """Takes in a part of the log, wherever it comes from."""
        if self.end is not None:
            return
        known = len(self.tokens)
        if first_seq > known + 1:
            self.behind = True
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
        # The end tells how long the log is; a shorter log than ours ended without what was sent already.
        self.close(end if first_seq + len(tokens) == len(self.tokens) + 1 else DIVERGED)


class Mirrors:
    """All copies of one gateway."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._mirrors: dict[str, Mirror] = {}

    def __len__(self) -> int:
        return len(self._mirrors)

    def __iter__(self) -> Iterator[Mirror]:
        return iter(tuple(self._mirrors.values()))

    def __repr__(self) -> str:
        return f"<Mirrors of {len(self._mirrors)} logs>"

    def get(self, request_id: str) -> Mirror | None:
        return self._mirrors.get(request_id)

    def open(self, request_id: str, candidate: Candidate | None = None) -> Mirror:
        """A new copy, which is empty."""
        now = self._now()
        mirror = self._mirrors[request_id] = Mirror(request_id, candidate=candidate, heard_at=now, wanted_at=now)
        return mirror

    def drop(self, mirror: Mirror) -> None:
        """Nobody reads it any more."""
        if self._mirrors.get(mirror.request_id) is mirror:
            del self._mirrors[mirror.request_id]

    def hear(self, payload: bytes) -> bool:
        """Takes in a push. Whether a copy is behind now."""
        behind = False
        now = self._now()
        for request_id, epoch, first_seq, tokens, end in decode_pushes(payload):
            mirror = self._mirrors.get(request_id)
            if mirror is not None:
                mirror.heard_at = now
                mirror.hear(epoch, first_seq, tokens, end)
                behind = behind or mirror.behind
        return behind

    def doubt_all(self) -> None:
        """The connection was lost: pushes were missed, and the server may be another."""
        for mirror in self._mirrors.values():
            mirror.doubtful = True
