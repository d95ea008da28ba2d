"""What the workers of this process hold, as far as this process knows, and what they should look at."""

from collections.abc import Iterator

import attrs

from llmactors.ledger.news import News

Held = tuple[str, int]
"""A request's id and the epoch of the claim."""


@attrs.define(eq=False)
class LocalWorker:
    """One worker incarnation that lives here."""

    news: News = attrs.field(factory=News)
    held: set[Held] = attrs.field(factory=set)
    _suspects: set[Held] = attrs.field(factory=set)

    def unaccounted(self, held_there: set[Held]) -> set[Held]:
        """What the ledger says that this worker holds, twice in a row, and this worker does not know of."""
        strange = held_there - self.held
        found, self._suspects = strange & self._suspects, strange
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
        """The worker, which is known from now on."""
        return self._workers.setdefault(worker_id, LocalWorker())

    def find(self, worker_id: str) -> LocalWorker | None:
        """None before its first beat, and after its last."""
        return self._workers.get(worker_id)

    def drop(self, worker_id: str) -> None:
        """It has lost its lease, or left."""
        worker = self._workers.pop(worker_id, None)
        if worker is not None:
            worker.news.tell_stop()

    def holder_of(self, request_id: str, epoch: int) -> str:
        """The id of the worker here that runs it; empty where none does."""
        held = request_id, epoch
        return next((worker_id for worker_id, worker in self._workers.items() if held in worker.held), "")

    def let_go(self, request_id: str, epoch: int) -> None:
        """Nobody here runs it any more."""
        for worker in self._workers.values():
            worker.held.discard((request_id, epoch))

    def tell_work(self, model: str) -> None:
        """There is something new to claim."""
        for worker in self._workers.values():
            worker.news.tell_work(model)

    def tell_all(self) -> None:
        """Anything may have happened."""
        for worker in self._workers.values():
            worker.news.tell_all()
