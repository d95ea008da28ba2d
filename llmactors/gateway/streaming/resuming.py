"""How an answer goes on that an earlier gateway began to write on the same connection.

Each write notes where it brings the client: the seq of the last entry of the log that was rendered, one for each choice
of the answer, and how many pieces of the end were written where the end is written in several. A gateway that takes the
connection over renders the log up to there and drops the bytes, so that its renderer is in the same state. What was
written between two tokens, as a keep-alive, and how tokens were put together into writes, does not matter.
"""

from collections.abc import Callable

import attrs
import trio

from llmactors.errors import Unavailable
from llmactors.gateway.streaming.pump import pieces
from llmactors.ledger import Follower, LogSlice


@attrs.frozen
class Reached:
    """How far a client has got in the logs of an answer."""

    seqs: tuple[int, ...]
    """The seq of the last entry that the client has, of each choice."""
    end_pieces: int = 0
    """How many pieces of the end the client has, behind that entry."""

    @classmethod
    def parse(cls, noted: bytes, choices: int = 1) -> "Reached":
        """The inverse of `note`. Nothing is noted as long as the client has only the head of the response."""
        if not noted:
            return cls((0,) * choices)
        seqs, _, end_pieces = noted.partition(b".")
        return cls(tuple(int(seq) for seq in seqs.split(b",")), int(end_pieces or b"0"))

    def note(self) -> bytes:
        """The text of this for the record of a write."""
        seqs = b",".join(b"%d" % seq for seq in self.seqs)
        return b"%b.%d" % (seqs, self.end_pieces) if self.end_pieces else seqs


def last_seq(part: LogSlice) -> int:
    """The seq of the last entry of a slice."""
    return part.first_seq + len(part.deltas) - (part.end is None)


async def catch_up(follower: Follower, seq: int, render: Callable[[LogSlice], object]) -> LogSlice | None:
    """Renders the entries up to `seq`, which the client has. Returns what was taken of the log behind them.

    Raises `Unavailable` for a log that is shorter than what the client has.
    """
    while follower.cursor < seq:
        await follower.wait_more()
        taken = follower.take()
        if not taken.deltas and taken.end is None:
            raise Unavailable("the log of this answer was lost")
        had, new = split(taken, seq)
        for part in pieces(had):
            render(part)
            await trio.lowlevel.checkpoint()
        if new.deltas or new.end is not None:
            return new
    return None


def split(part: LogSlice, seq: int) -> tuple[LogSlice, LogSlice]:
    """The entries up to `seq`, and those behind it."""
    count = max(0, seq - part.first_seq + 1)
    if count > len(part.deltas):
        return part, LogSlice(part.end_seq + 1, ())
    first, rest = part.deltas[:count], part.deltas[count:]
    return LogSlice(part.first_seq, first), LogSlice(part.first_seq + count, rest, part.end)
