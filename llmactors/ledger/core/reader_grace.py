"""When a request without a reader is cancelled. Pure."""

from collections.abc import Iterator

from llmactors.ledger.core.record import Record
from llmactors.ledger.core.timers import Timers


class ReaderGrace:
    """The grace of all requests without a reader. A grace begins with the submit, or when the last follower closes."""

    def __init__(self) -> None:
        self._unread = Timers()

    def __len__(self) -> int:
        return len(self._unread)

    def __repr__(self) -> str:
        return f"<ReaderGrace: {len(self._unread)} without a reader>"

    def readers_changed(self, record: Record, now: float) -> None:
        """Starts or ends the grace of a request: call this after a submit, and when its first follower opens or its
        last one closes.
        """
        if record.readers or record.end is not None:
            self.forget(record)
        else:
            self._unread.set(record.request.id, now + record.request.resume_grace_ms / 1000)

    def forget(self, record: Record) -> None:
        self._unread.clear(record.request.id)

    def first(self) -> float:
        """When the next grace ends, as far as is known now."""
        return self._unread.first()

    def pop_abandoned(self, now: float) -> Iterator[str]:
        """The id of each request whose grace has passed."""
        return self._unread.pop_due(now)
