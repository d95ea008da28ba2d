"""What the backend has made and the log does not have yet. Pure."""

import attrs

from llmactors.backends.messages import Key
from llmactors.ledger import AppendEntry


class Outbox:
    """Entries to append, one per request: what comes while one append is under way goes out together with the next."""

    def __init__(self) -> None:
        self._entries: dict[Key, AppendEntry] = {}
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Outbox: {self._tokens} tokens of {len(self._entries)} requests>"

    @property
    def tokens(self) -> int:
        """How many wait."""
        return self._tokens

    def put(self, entry: AppendEntry) -> None:
        """Adds what follows on whatever of its request is here already."""
        key = entry.request_id, entry.epoch
        self._tokens += len(entry.deltas)
        if (earlier := self._entries.get(key)) is not None:
            entry = attrs.evolve(earlier, deltas=(*earlier.deltas, *entry.deltas), end=entry.end)
        self._entries[key] = entry

    def drop(self, key: Key) -> None:
        """Nobody wants these any more."""
        if (entry := self._entries.pop(key, None)) is not None:
            self._tokens -= len(entry.deltas)

    def take(self) -> list[AppendEntry]:
        """Everything, which is not here any more."""
        taken = [*self._entries.values()]
        self._entries.clear()
        self._tokens = 0
        return taken
