"""How records are written and read, wherever they are."""

from collections.abc import Callable, Sequence
from typing import Protocol

from llmactors.access.keys.record import KeyRecord
from llmactors.errors import NotFound, OperatorError

Change = Callable[[KeyRecord], KeyRecord]


class KeyStoreError(OperatorError):
    """The place where the keys are cannot be read or written."""


class KeyStore(Protocol):
    """For who makes and revokes keys. Once a method has returned, what it did is kept, and gateways hear of it.

    Several may write at once: no change is lost, and no reader ever sees half of one.

    Raises:
        KeyStoreError: It cannot be read or written, or holds what is no key.
        Unavailable: Redis is away.
    """

    async def records(self) -> Sequence[KeyRecord]:
        """All of them, the oldest first."""
        ...

    async def add(self, record: KeyRecord) -> None:
        """A new one."""
        ...

    async def change(self, key_id: str, change: Change) -> KeyRecord:
        """Puts what `change` makes of the record in its place, and returns it. `change` may be asked again.

        Raises `NotFound` where there is no such key, and what `change` raises.
        """
        ...


def no_such_key(key_id: str) -> NotFound:
    """For a `change` of what is not there."""
    return NotFound(f"there is no key {key_id!r}; see `keys list`")


def in_order(records: Sequence[KeyRecord]) -> list[KeyRecord]:
    """The oldest first."""
    return sorted(records, key=lambda record: (record.created, record.id))
