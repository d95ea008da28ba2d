"""What the backend has made and the log does not have yet. Pure."""

from llmactors.backends.messages import Key
from llmactors.batcher.running import Running
from llmactors.ledger import AppendEntry


class Outbox:
    """The requests that have something to append: what comes while one append is under way goes out with the next.

    Entries are made when they are taken, one per request, however many steps a slow append lasted.
    """

    def __init__(self) -> None:
        self._waiting: dict[Key, Running] = {}
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
        self._waiting[running.key] = running

    def drop(self, key: Key) -> None:
        """Nobody wants these any more."""
        if (running := self._waiting.pop(key, None)) is not None:
            self._tokens -= len(running.deltas) - running.taken

    def take(self) -> list[AppendEntry]:
        """Everything, which is not here any more."""
        taken = [running.take() for running in self._waiting.values()]
        self._waiting.clear()
        self._tokens = 0
        return taken
