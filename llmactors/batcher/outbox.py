"""The requests whose newest tokens are not in the log yet. Pure."""

from collections.abc import Mapping

from llmactors.batcher.running import Running
from llmactors.ledger import AppendEntry


class Outbox:
    """The requests that have something to append.

    An append takes all of them, with one entry per request, however many steps the append before it lasted.
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
        """How many tokens wait for an append."""
        return self._tokens

    def put(self, requests: Mapping[Running, None], tokens: int) -> None:
        """Adds the keys of `requests`, which have more to append: `tokens` tokens together, or terminal events."""
        self._tokens += tokens
        self._waiting.update(requests)

    def drop(self, running: Running) -> None:
        """Takes a request out: this worker does not hold the request any more."""
        if running in self._waiting:
            del self._waiting[running]
            self._tokens -= len(running.deltas) - running.taken

    def take(self) -> list[AppendEntry]:
        """Takes everything out, as entries of an append."""
        taken = [running.take() for running in self._waiting]
        self._waiting.clear()
        self._tokens = 0
        return taken
