"""Whether anybody reads: when a request without a reader is to be cancelled. Pure."""

from collections.abc import Iterator

from llmactors.ledger.core.record import Record
from llmactors.ledger.core.timers import Timers


class Presence:
    """`resume_grace_ms` runs from the submit, or from the close of the last follower."""

    def __init__(self) -> None:
        self._unread = Timers()

    def __len__(self) -> int:
        return len(self._unread)

    def __repr__(self) -> str:
        return f"<Presence: {len(self._unread)} without a reader>"

    def changed(self, record: Record, now: float) -> None:
        """It was submitted, its last follower was closed, or a first one was opened."""
        if record.readers or record.end is not None:
            self.forget(record)
        else:
            self._unread.set(record.request.id, now + record.request.resume_grace_ms / 1000)

    def forget(self, record: Record) -> None:
        self._unread.clear(record.request.id)

    def pop_abandoned(self, now: float) -> Iterator[str]:
        """The id of each request that nobody has read for its whole grace."""
        return self._unread.pop_due(now)
