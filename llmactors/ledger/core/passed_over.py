"""What one claim passes over, because it prefers another worker. Pure."""

import attrs

from llmactors.ledger.core.leases import Worker
from llmactors.ledger.core.record import Record


@attrs.define
class PassedOver:
    """The requests that one claim passed over, because each prefers another worker that has room."""

    records: list[Record] = attrs.field(factory=list)
    _left: dict[str, int] = attrs.field(factory=dict)
    """How many more requests each of the other workers could take."""

    def has_room(self, worker: Worker, model: str) -> bool:
        """Whether the worker could take one more of the requests that prefer it."""
        return self._left.setdefault(worker.id, worker.room.get(model, 0)) > 0

    def add(self, record: Record, worker: Worker) -> None:
        """Notes a request that waits for `worker`."""
        self.records.append(record)
        self._left[worker.id] -= 1
