"""The interface of a key store."""

from collections.abc import Callable, Sequence
from typing import Protocol

from llmactors.access.keys.record import KeyRecord
from llmactors.errors import NotFound, OperatorError

Change = Callable[[KeyRecord], KeyRecord]


class KeyStoreError(OperatorError):
    """The key store cannot be read or written."""


class KeyStore(Protocol):
    """Keeps the records of all keys. When a method has returned, its change is stored, and gateways learn of it.

    Several processes may write at once: no change is lost, and no reader sees half of a change.

    Raises:
        KeyStoreError: The store cannot be read or written, or holds something that is not a key.
        Unavailable: Redis is away.
    """

    async def records(self) -> Sequence[KeyRecord]:
        """All records, oldest first."""
        ...

    async def add(self, record: KeyRecord) -> None:
        """Adds a record."""
        ...

    async def change(self, key_id: str, change: Change) -> KeyRecord:
        """Replaces a record by the result of `change`, and returns the new record. `change` may be called again.

        Raises `NotFound` if no such key exists, and any exception of `change`.
        """
        ...


def no_such_key(key_id: str) -> NotFound:
    """The error for a key that does not exist."""
    return NotFound(f"there is no key {key_id!r}; see `keys list`")


def in_order(records: Sequence[KeyRecord]) -> list[KeyRecord]:
    """The records, oldest first."""
    return sorted(records, key=lambda record: (record.created, record.id))
