"""What the backend has made and the log does not have yet. Pure."""

from llmactors.batcher.running import Running
from llmactors.ledger import AppendEntry


class Outbox:
    """The requests that have something to append: what comes while one append is under way goes out with the next.

    Entries are made when they are taken, one per request, however many steps a slow append lasted.
    """

    def __init__(self) -> None:
        self._waiting: dict[Running, None] = {}
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Outbox: {self._tokens} tokens of {len(self._waiting)} requests>"

    @property
    def tokens(self) -> int:
        """How many wait."""
        return self._tokens

    def put(self, running: Running, tokens: int) -> None:
        """It has so many more tokens to append, or none and its end."""
        self._tokens += tokens
        self._waiting[running] = None

    def drop(self, running: Running) -> None:
        """Nobody wants this any more."""
        if running in self._waiting:
            del self._waiting[running]
            self._tokens -= len(running.deltas) - running.taken

    def take(self) -> list[AppendEntry]:
        """Everything, which is not here any more."""
        taken = [running.take() for running in self._waiting]
        self._waiting.clear()
        self._tokens = 0
        return taken
