"""The workers of this process: what each holds, as far as this process knows, and what wakes it."""

from collections.abc import Iterator

import attrs

from llmactors.ledger.change_signal import ChangeSignal

Held = tuple[str, int]
"""The id of a request and the epoch of its claim."""


@attrs.define(eq=False)
class LocalWorker:
    """One incarnation of a worker in this process."""

    changes: ChangeSignal = attrs.field(factory=ChangeSignal)
    held: set[Held] = attrs.field(factory=set)
    _unknown: set[Held] = attrs.field(factory=set)

    def unaccounted(self, held_there: set[Held]) -> set[Held]:
        """The claims that the ledger names in two answers in a row, and that this worker does not know."""
        unknown = held_there - self.held
        found, self._unknown = unknown & self._unknown, unknown
        return found


class Workers:
    """All workers of this process by id."""

    def __init__(self) -> None:
        self._workers: dict[str, LocalWorker] = {}

    def __len__(self) -> int:
        return len(self._workers)

    def __iter__(self) -> Iterator[LocalWorker]:
        return iter(self._workers.values())

    def __repr__(self) -> str:
        return f"<Workers {sorted(self._workers)}>"

    def get(self, worker_id: str) -> LocalWorker:
        """The worker with this id. An unknown worker is added."""
        return self._workers.setdefault(worker_id, LocalWorker())

    def find(self, worker_id: str) -> LocalWorker | None:
        """The worker with this id; None before its first beat, and after it lost its lease."""
        return self._workers.get(worker_id)

    def drop(self, worker_id: str) -> None:
        """Forgets a worker that lost its lease or left, and wakes it."""
        worker = self._workers.pop(worker_id, None)
        if worker is not None:
            worker.changes.notify_stop()

    def holder_of(self, request_id: str, epoch: int) -> str:
        """The id of the worker here that runs the request; empty where none does."""
        held = request_id, epoch
        return next((worker_id for worker_id, worker in self._workers.items() if held in worker.held), "")

    def let_go(self, request_id: str, epoch: int) -> None:
        """Forgets a claim that is over."""
        for worker in self._workers.values():
            worker.held.discard((request_id, epoch))

    def notify_work(self, model: str) -> None:
        """Wakes the workers of `model`: there is something new to claim."""
        for worker in self._workers.values():
            worker.changes.notify_work(model)

    def notify_all(self) -> None:
        """Wakes all workers: anything may have changed."""
        for worker in self._workers.values():
            worker.changes.notify_all()
